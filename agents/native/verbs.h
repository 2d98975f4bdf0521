/* The verbs that know of no job. Each returns an exit code. */
#ifndef MELT_VERBS_H
#define MELT_VERBS_H

#include <stdint.h>

int verb_version(void);
int verb_clock(void);
int verb_hash(char **paths);
int verb_read(char **patterns);
int verb_bandwidth(int64_t threads, int64_t bytes, int64_t seconds);

#endif
