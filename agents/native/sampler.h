/* The sampling thread: groups of files read on a grid of absolute times. */
#ifndef MELT_SAMPLER_H
#define MELT_SAMPLER_H

#include <pthread.h>
#include <stdatomic.h>

#include "job.h"
#include "journal.h"

struct group;

struct sampler {
    const struct job *job;
    struct journal *journal;
    struct group *groups;
    uint8_t *tick;          /* the tick being read */
    int wake_fd;            /* gets a byte when a trip is reached */
    int64_t start_ns;       /* the first tick of everything */
    pthread_t thread;
    atomic_bool stopping, stopped;
    atomic_int runner;      /* process behind {pid}; 0: none now */
    atomic_int tripped;     /* index of the trip + 1 */
    atomic_llong tripped_value;
};

/* False with errno set. Without groups nothing is started. */
bool sampler_start(struct sampler *sampler, const struct job *job, struct journal *journal, int wake_fd);
void sampler_stop(struct sampler *sampler);
/* Adds ,"missed":{"GID":N,...},"ticks":{...} */
void sampler_counts(const struct sampler *sampler, struct text *json);

#endif
