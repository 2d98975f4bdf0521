/* A program's output, cut into lines, each stamped with the time its bytes were read. */
#ifndef MELT_LINES_H
#define MELT_LINES_H

#include "journal.h"

#define MAX_LINE_BYTES (1u << 20)

struct lines {
    int fd; /* -1: at its end */
    uint16_t source;
    struct text partial;
    int64_t partial_ns; /* when its first byte was read */
};

/* Makes a pipe. The end to read from is in `lines`; returns the one to write to, -1 with errno set. */
int lines_open(struct lines *lines, uint16_t source);
/* Reads what is there and journals the whole lines. False: nothing was there, or it ended. */
bool lines_read(struct lines *lines, struct journal *journal);
/* Reads what is left, journals a last line without an end, and closes. */
void lines_close(struct lines *lines, struct journal *journal);

#endif
