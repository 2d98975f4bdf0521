/* Small things every part needs: growing text, JSON strings, percent-encoding, whole reads and writes. */
#ifndef MELT_UTIL_H
#define MELT_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

/* A string that grows. Always ends in a NUL that `length` does not count. Memory that runs out ends the process. */
struct text {
    char *data;
    size_t length, capacity;
};

void text_add(struct text *text, const void *bytes, size_t length);
void text_format(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Adds a JSON string. Bytes that are no UTF-8 become \udcXX, as Python's os.fsdecode has them. */
void text_json(struct text *text, const char *bytes, size_t length);
void text_json_string(struct text *text, const char *string_or_null);
/* Adds a field of a job file: bytes outside '!'..'~' and '%' as %XX, nothing as %-. */
void text_field(struct text *text, const char *bytes, size_t length);
void text_free(struct text *text);

void *checked_realloc(void *old, size_t bytes);
char *checked_strdup(const char *string);

/* Decodes a field in place. False: not a field, or it holds a NUL byte. */
bool field_decode(char *field);
/* A whole decimal number within [low, high]. */
bool parse_int(const char *string, int64_t low, int64_t high, int64_t *value);

bool write_all(int fd, const void *bytes, size_t length);
/* Reads a file to its end, at most `limit` bytes. False with errno set. */
bool read_whole(int dir, const char *path, size_t limit, struct text *into);

/* Prints "melt-agent: ..." on stderr. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
