/* Stream programs: kept running for the whole job, started anew when they end. */
#ifndef MELT_STREAMS_H
#define MELT_STREAMS_H

#include "child.h"
#include "job.h"
#include "lines.h"

struct stream {
    const struct job_stream *job;
    struct child child;
    struct lines out;
    int err; /* its stderr, -1: closed; only the end of it is kept, for `stream_ended` */
    char said[256];
    size_t said_bytes;
    int restarts;
    int64_t start_ns; /* when to start it; INT64_MAX: it runs, or not any more */
};

void stream_prepare(struct stream *stream, const struct job_stream *job, int64_t start_ns);
/* Starts it if it is time. `record` is called when its process number is known. */
void stream_start_if_due(struct stream *stream, struct journal *journal, void (*record)(void *), void *argument);
void stream_read_err(struct stream *stream);
/* Notices its end. While the job goes on this is an event, and a reason to start it anew after a pause. */
void stream_check(struct stream *stream, bool job_goes_on, struct journal *journal);

#endif
