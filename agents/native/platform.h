/* Everything that differs between Linux (Android included) and macOS. One file implements it for each. */
#ifndef MELT_PLATFORM_H
#define MELT_PLATFORM_H

#include <sys/stat.h>

#include "util.h"

extern const char PLATFORM_OS[];

int64_t monotonic_ns(void); /* what Python's time.monotonic_ns() reads here */
int64_t realtime_ns(void);
int64_t boottime_ns(void); /* goes on while the machine sleeps */
void sleep_until_ns(int64_t t_ns); /* returns early when a signal arrives */

/* A number that together with `pid` names one process of this boot; 0 when there is no such process. */
uint64_t process_start(pid_t pid);
/* Identity of this boot, "" when the system does not say. */
const char *boot_id(void);
int64_t own_rss_bytes(void); /* -1: unknown */
bool sync_data(int fd);
/* Takes room on the disk for a file that will be so long. False with errno set; where the file system cannot, true. */
bool keep_room(int fd, int64_t bytes);
/* A file's times: of its content, and of anything about it. */
int64_t modified_ns(const struct stat *info);
int64_t changed_ns(const struct stat *info);
int pipe_cloexec(int fds[2]);

/* CPU lists as the kernel writes them ("0-3,6"). Both return false where the system has no affinity. */
bool affinity_valid(const char *list);
bool affinity_set_self(const char *list);
bool affinity_get(pid_t pid, struct text *list);

/* How many processes the out-of-memory killer has ended in our memory cgroup, else on the machine; -1: unknown. */
int64_t oom_kill_count(void);
/* Factor that makes bytes of getrusage's ru_maxrss. */
extern const int64_t MAXRSS_UNIT_BYTES;

/* What stands where a path does and names no file: a question to the kernel (agents/PROTOCOL.md, The job file). */
#define KERNEL_QUESTION "kernel:"
/* Writes the answer as text, `pid` being the runner. Returns its bytes, at most `room`, or -1 with errno set. */
ssize_t kernel_answer(const char *question, pid_t pid, char *into, size_t room);

void thread_wants_exact_timers(void);
void thread_accepts_late_timers(void);
void adopt_orphans(void);         /* children whose parent dies become ours */
void die_with_parent(void);       /* in a child before exec */
void be_first_out_of_memory(void); /* in a child before exec: the runner goes before the agent does */

#endif
