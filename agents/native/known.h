/* Hashes taken before: a small file beside each file, believed only while that one was not touched. */
#ifndef MELT_KNOWN_H
#define MELT_KNOWN_H

#include <sys/stat.h>

#include "util.h"

/* The hash recorded for an open file, if it was not touched since; asking counts as use. */
bool known_look(const char *path, int fd, char digits[65]);
/* Records the hash of an open file that looked like `before` when its first byte was read. Where it changed meanwhile,
   or where the folder takes no file, nothing is recorded. */
void known_record(const char *path, int fd, const struct stat *before, const char digits[65]);
/* Whether a name is that of a record. */
bool known_is_record(const char *name);
/* When a file was last asked for or received, by the clock of the file system. */
int64_t known_used_ns(const char *path, const struct stat *info);

#endif
