/* A program that is run once to its end, for at most ten seconds, and what it printed. */
#ifndef MELT_PROGRAM_H
#define MELT_PROGRAM_H

#include "child.h"

struct capture {
    int fd; /* -1: closed */
    size_t limit;
    bool cut; /* there was more than the limit */
    struct text kept;
};

struct program {
    struct child child;
    struct capture out, err;
    int64_t started_ns;
    bool killed;
};

#define PROGRAM_ERR_BYTES 4096

void program_prepare(struct program *program, size_t out_limit);
/* `record` is called when its process number is known. False: it could not be started, and `err` says why. */
bool program_start(struct program *program, char *const *argv, void (*record)(void *), void *argument);
/* Takes what its pipes hold. */
void program_read(struct program *program);
/* True once it has ended, with all that it printed; one whose time is over is killed. */
bool program_ended(struct program *program, struct child_exit *ended);
void program_kill(struct program *program);
/* When to look at it again if nothing is heard of it; INT64_MAX: it does not run. */
int64_t program_limit_ns(const struct program *program);

#endif
