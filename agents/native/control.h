/* The verbs about one job: start, status, stop, recover, tail, check. Each returns an exit code. */
#ifndef MELT_CONTROL_H
#define MELT_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

int verb_start(const char *job_dir);
int verb_status(const char *job_dir);
int verb_stop(const char *job_dir);
int verb_recover(const char *job_dir);
int verb_tail(const char *job_dir, int64_t offset, bool follow);
int verb_check(const char *job_dir);

#endif
