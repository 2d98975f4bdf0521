/* The verbs that know of no job. Each returns an exit code. */
#ifndef MELT_VERBS_H
#define MELT_VERBS_H

#include <stdbool.h>
#include <stdint.h>

/* Opens a regular file only: a pipe or a device could keep us for ever. -1 with errno set. */
int open_regular(const char *path);
/* Prints an empty line when five seconds went by since the last one: a host waits for as long as it hears something. */
void say_still_at_work(int64_t *last_ns);

int verb_version(void);
int verb_clock(void);
int verb_hash(char **paths, bool known);
int verb_receive(const char *path, int64_t size, int64_t offset, const char *sha256);
int verb_stored(const char *folder);
int verb_read(char **patterns);
int verb_bandwidth(int64_t threads, int64_t bytes, int64_t seconds);
/* For `ms` in all; 0: what is long enough. `threads` 0: one per CPU. */
int verb_compute(int64_t threads, int64_t ms);
/* Steps in turn busy and idle, the first and the last of `n` busy. `threads` 0: one per CPU. */
int verb_burst(int64_t threads, const int64_t *steps_ms, int n);

#endif
