/* Programs run anew on the grid of their period: all that one prints is one record. */
#ifndef MELT_POLLS_H
#define MELT_POLLS_H

#include "job.h"
#include "journal.h"
#include "program.h"

struct poller {
    const struct job_poll *job;
    struct program program;
    int64_t due_ns; /* its next tick; while it runs, the one it runs for */
    bool failing;   /* its last run failed, and the journal says so */
    int *over;      /* for each of its trips: runs in a row */
    size_t tripped; /* number of a trip + 1 */
    long long tripped_value;
};

void poller_prepare(struct poller *poller, const struct job_poll *job, int64_t start_ns);
/* Notices its end, and starts it if it is time and the job goes on. `record` is called when its process number is known. */
void poller_step(struct poller *poller, bool job_goes_on, struct journal *journal, void (*record)(void *), void *argument);
/* When there is something to do if nothing is heard of it. */
int64_t poller_next_ns(const struct poller *poller, bool job_goes_on);

#endif
