/* Programs the agent starts: each leads a process group of its own, and nothing of it is left behind. */
#ifndef MELT_CHILD_H
#define MELT_CHILD_H

#include <sys/resource.h>

#include "util.h"

struct child_plan {
    char *const *argv;
    const char *cwd;      /* NULL: ours */
    char *const *env;     /* "NAME=VALUE" that replace ours, NULL: none */
    const char *affinity; /* NULL: ours */
    bool is_runner;
    int out, err;         /* its stdout and stderr; -1: nowhere */
};

struct child {
    pid_t pid; /* 0: not running */
};

struct child_failure {
    int error;
    struct text message;
};

struct child_exit {
    int exit_code, signal; /* -1: did not happen */
    struct rusage usage;
};

/* Lets this process open many files; its children get the limit it had. */
void child_raise_file_limit(void);
/* Starts a program. `record`, if any, is called when its number is known and before it does anything.
   False: it could not be started, and `failure` says why. */
bool child_start(struct child *child, const struct child_plan *plan, void (*record)(void *), void *argument,
                 struct child_failure *failure);
/* If the child has ended: kills what is left of its group, collects it, and returns true. */
bool child_ended(struct child *child, struct child_exit *ended);
void child_signal(const struct child *child, int signal);
/* Adds ,"exit_code":N|null,"signal":N|null for what ended, or, with NULL, for what could not be started. */
void exit_fields(const struct child_exit *ended_or_null, struct text *json);
/* Runs a program to its end, at most `limit_ms`. True if it ended with 0. */
bool child_run(char *const *argv, int64_t limit_ms);

/* Sends SIGKILL to a process group and waits, at most `limit_ms`, until nobody is left in it. */
void kill_group(pid_t leader, int64_t limit_ms);

#endif
