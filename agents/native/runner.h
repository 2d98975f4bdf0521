/* The supervised program: its start, its end, and what of both goes into the journal. */
#ifndef MELT_RUNNER_H
#define MELT_RUNNER_H

#include "child.h"
#include "job.h"
#include "lines.h"

struct runner {
    struct child child;
    struct child_exit ended;
    struct lines out, err;
    int64_t oom_before;
    int64_t kill_ns; /* when, having been asked to end, it is killed; 0: not asked; INT64_MAX: killed */
};

void runner_prepare(struct runner *runner);
/* `record` is called when its process number is known. False: it could not be started, and the journal says why. */
bool runner_start(struct runner *runner, const struct job *job, struct journal *journal, void (*record)(void *),
                  void *argument);
/* Asks it to end. False: it was asked before. */
bool runner_ask_end(struct runner *runner);
/* Kills it when it was asked and did not listen. */
void runner_insist(struct runner *runner);
/* True once it has ended; the journal then has its exit and its rusage. */
bool runner_ended(struct runner *runner, struct journal *journal);
bool runner_output_is_over(const struct runner *runner);
/* Takes what is left of its output. */
void runner_close(struct runner *runner, struct journal *journal);

#endif
