#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

const char PLATFORM_OS[] = "linux";
const int64_t MAXRSS_UNIT_BYTES = 1024;

static int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

int64_t monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
int64_t realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }
int64_t boottime_ns(void) { return clock_ns(CLOCK_BOOTTIME); }

void sleep_until_ns(int64_t t_ns) {
    struct timespec t = {t_ns / NS_PER_S, t_ns % NS_PER_S};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

uint64_t process_start(pid_t pid) {
    char path[64];
    struct text stat = {0};
    unsigned long long start = 0;
    char state = 'X';
    /* The first task's, which begins with its process: qemu makes up /proc/PID/stat for who reads its own. */
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)pid);
    if (read_whole(AT_FDCWD, path, 4096, &stat)) {
        /* The name in parentheses may hold anything: count the fields from its end (proc_pid_stat(5), field 22). */
        const char *after = strrchr(stat.data, ')');
        if (after && sscanf(after, ") %c", &state) == 1 && state != 'Z' && state != 'X')
            sscanf(after, ") %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &start);
    }
    text_free(&stat);
    return start;
}

const char *boot_id(void) {
    static char id[40];
    if (!*id) {
        struct text file = {0};
        if (read_whole(AT_FDCWD, "/proc/sys/kernel/random/boot_id", sizeof id - 1, &file))
            memcpy(id, file.data, strcspn(file.data, "\n"));
        text_free(&file);
    }
    return id;
}

int64_t own_rss_bytes(void) {
    struct text file = {0};
    long long pages = -1;
    if (read_whole(AT_FDCWD, "/proc/self/statm", 256, &file) && sscanf(file.data, "%*s %lld", &pages) != 1)
        pages = -1;
    text_free(&file);
    return pages < 0 ? -1 : pages * sysconf(_SC_PAGESIZE);
}

bool sync_data(int fd) { return fdatasync(fd) == 0; }

bool keep_room(int fd, int64_t bytes) {
    return !bytes || !fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes) || (errno != ENOSPC && errno != EDQUOT && errno != EFBIG);
}

int64_t modified_ns(const struct stat *info) { return info->st_mtim.tv_sec * NS_PER_S + info->st_mtim.tv_nsec; }

int64_t changed_ns(const struct stat *info) { return info->st_ctim.tv_sec * NS_PER_S + info->st_ctim.tv_nsec; }

int pipe_cloexec(int fds[2]) { return pipe2(fds, O_CLOEXEC); }

static bool parse_cpus(const char *list, cpu_set_t *cpus) {
    CPU_ZERO(cpus);
    for (const char *at = list;; at++) {
        char *end;
        if (*at < '0' || *at > '9')
            return false;
        long first = strtol(at, &end, 10), last = first;
        if (*end == '-') {
            if (end[1] < '0' || end[1] > '9')
                return false;
            last = strtol(end + 1, &end, 10);
        }
        if (last < first || last >= CPU_SETSIZE)
            return false;
        for (long cpu = first; cpu <= last; cpu++)
            CPU_SET((size_t)cpu, cpus);
        at = end;
        if (!*at)
            return true;
        if (*at != ',')
            return false;
    }
}

bool affinity_valid(const char *list) {
    cpu_set_t cpus;
    return parse_cpus(list, &cpus);
}

bool affinity_set_self(const char *list) {
    cpu_set_t cpus;
    return parse_cpus(list, &cpus) && sched_setaffinity(0, sizeof cpus, &cpus) == 0;
}

bool affinity_get(pid_t pid, struct text *list) {
    cpu_set_t cpus;
    if (sched_getaffinity(pid, sizeof cpus, &cpus))
        return false;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &cpus))
            continue;
        size_t last = cpu;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &cpus))
            last++;
        text_format(list, list->length ? ",%zu" : "%zu", cpu);
        if (last > cpu)
            text_format(list, "-%zu", last);
        cpu = last;
    }
    return true;
}

/* The number behind `key` in a file of "key number" lines, -1 if it is not there. */
static int64_t counter(const char *path, const char *key) {
    struct text file = {0};
    long long value = -1;
    if (read_whole(AT_FDCWD, path, 1 << 20, &file)) {
        size_t length = strlen(key);
        for (const char *line = file.data; line; line = strchr(line, '\n')) {
            line += *line == '\n';
            if (!strncmp(line, key, length) && line[length] == ' ') {
                value = strtoll(line + length, NULL, 10);
                break;
            }
        }
    }
    text_free(&file);
    return value;
}

int64_t oom_kill_count(void) {
    /* Our own cgroup first: the machine's count would also rise for a stranger's process. */
    struct text cgroups = {0}, path = {0};
    int64_t count = -1;
    if (read_whole(AT_FDCWD, "/proc/self/cgroup", 65536, &cgroups)) {
        for (char *line = strtok(cgroups.data, "\n"); line && count < 0; line = strtok(NULL, "\n")) {
            char *controllers = strchr(line, ':'), *group = controllers ? strchr(++controllers, ':') : NULL;
            if (!group)
                continue;
            *group++ = 0;
            path.length = 0;
            if (!*controllers)
                text_format(&path, "/sys/fs/cgroup%s/memory.events", group);
            else if (!strcmp(controllers, "memory"))
                text_format(&path, "/sys/fs/cgroup/memory%s/memory.oom_control", group);
            else
                continue;
            count = counter(path.data, "oom_kill");
        }
    }
    text_free(&cgroups);
    text_free(&path);
    return count >= 0 ? count : counter("/proc/vmstat", "oom_kill");
}

/* Linux tells it all in files. */
ssize_t kernel_answer(const char *question, pid_t pid, char *into, size_t room) {
    (void)question, (void)pid, (void)into, (void)room;
    errno = ENOTSUP;
    return -1;
}

void thread_wants_exact_timers(void) { prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0); }

/* The kernel may then serve our wake-up together with another one. */
void thread_accepts_late_timers(void) { prctl(PR_SET_TIMERSLACK, 5UL * NS_PER_MS, 0, 0, 0); }

void adopt_orphans(void) { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

void die_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); }

void be_first_out_of_memory(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1000", 4);
        close(fd);
    }
}
