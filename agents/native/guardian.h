/* The guardian: the worker's parent, which sees to the end of the job when the worker cannot. */
#ifndef MELT_GUARDIAN_H
#define MELT_GUARDIAN_H

#include "job.h"

/* Detaches guardian and worker. True once the journal is open: `answer` is the worker's number. Else what is wrong. */
bool guardian_start(const struct job *job, int dir, struct text *answer);

#endif
