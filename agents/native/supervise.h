/* The worker: runs one job from its first sample to `end`. */
#ifndef MELT_SUPERVISE_H
#define MELT_SUPERVISE_H

#include "job.h"

#define EXIT_NOT_BEGUN 3 /* the worker's exit code when it could not open the journal */

/* Answers on `answer_fd`: "ok PID" or one sentence of what is wrong. Returns the exit code of the process. */
int supervise(const struct job *job, int dir, int answer_fd);

#endif
