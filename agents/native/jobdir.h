/* The job folder's small files: who is at work (`pid`), and how it ended (`end`). */
#ifndef MELT_JOBDIR_H
#define MELT_JOBDIR_H

#include "job.h"

struct process {
    pid_t pid;
    uint64_t start; /* tells it from a later process with the same number */
};

struct pids {
    char boot_id[64];
    struct process guardian, worker, runner;
    struct process *others; /* streams, polls, what prepares */
    size_t n_others;
};

struct process process_of(pid_t pid);
bool process_alive(const struct process *process);

bool pids_write(int dir, const struct pids *pids);
bool pids_read(int dir, struct pids *pids);
/* Notes this boot. */
void pids_boot(struct pids *pids);
/* Whether these numbers were given in this boot, as far as it can be told. */
bool pids_current(const struct pids *pids);
bool pids_tell_boots(const struct pids *pids);
/* Kills the runner and the other programs that an agent left behind, and what they started. */
void pids_kill_children(const struct pids *pids);

/* Puts back what the job says. Adds [{"what":...,"ok":...},...] to `json`. */
void restores_run(const struct job *job, struct text *json);

struct end {
    const char *reason;
    int64_t t_ns;
    int exit_code, signal;       /* -1: null */
    const struct text *restored; /* JSON */
    int journal_errno;           /* 0: null */
    bool rebooted_known, rebooted; /* whether the machine started anew while the job ran */
};

/* Adds "reason":...} : what the file and the journal's event have in common. */
void end_fields(const struct end *end, struct text *json);
/* Takes room for `end` on the disk now, so that it can be written when the disk is full. */
void end_reserve(int dir);
bool end_write(int dir, const struct end *end);
bool end_exists(int dir);

#endif
