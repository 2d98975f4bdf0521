/* What a job does to the device before anything else: one program after the other. */
#ifndef MELT_PREPARES_H
#define MELT_PREPARES_H

#include "job.h"
#include "journal.h"
#include "program.h"

struct prepares {
    const struct job *job;
    size_t next; /* the one that runs, or will */
    struct program program;
};

void prepares_begin(struct prepares *prepares, const struct job *job);
/* Notices the end of one and starts the next, unless `cut_short`. True once there is nothing left to wait for. */
bool prepares_step(struct prepares *prepares, bool cut_short, struct journal *journal, void (*record)(void *),
                   void *argument);

#endif
