/* The journal: any thread adds records to memory, one thread writes them out and makes them durable. */
#ifndef MELT_JOURNAL_H
#define MELT_JOURNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "util.h"

#define MAX_PAYLOAD_BYTES (4u << 20)
#define TICK_HEADER_BYTES 17u /* 'T', GID, time, duration, number of files */

struct journal {
    int dir, fd;
    int wake[2];
    pthread_t writer;
    pthread_mutex_t lock;
    char *filling, *writing; /* whole frames, without their checksums */
    size_t filled;
    bool writer_idle, closing;
    uint8_t nonce[8];
    uint32_t sequence;
    atomic_int full_errno;       /* why the disk refused; 0: it did not */
    bool dead;                   /* refused again: nothing can be written any more */
    atomic_int_least64_t bytes;  /* whole frames on disk */
};

/* Creates DIR/journal, which must not exist, and starts the writer. False with errno set. */
bool journal_open(struct journal *journal, int dir);

/* Adds a record: `head` and `body` one after the other. When memory is full it waits for the writer if `may_wait`,
   else returns false and adds nothing. */
bool journal_add(struct journal *journal, const void *head, size_t head_bytes, const void *body, size_t body_bytes,
                 bool may_wait);
void journal_add_text(struct journal *journal, char kind, const struct text *json);
void journal_add_line(struct journal *journal, uint16_t source, int64_t t_ns, bool cut, const char *line, size_t length);

/* Begins an event: {"event":NAME,"t_ns":now. The caller adds further fields, then event_end. */
struct text event_begin(const char *name);
void event_end(struct journal *journal, struct text *event);

/* Writes what is left, makes it durable and ends the writer. */
void journal_close(struct journal *journal);

/* Little-endian numbers, whatever the machine. */
static inline void put16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void put32(uint8_t *at, uint32_t value) {
    put16(at, (uint16_t)value);
    put16(at + 2, (uint16_t)(value >> 16));
}

static inline void put64(uint8_t *at, uint64_t value) {
    put32(at, (uint32_t)value);
    put32(at + 4, (uint32_t)(value >> 32));
}

#endif
