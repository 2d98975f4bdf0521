/* SHA-256, FIPS 180-4, with the CPU's own instructions where it has them. */
#ifndef MELT_SHA256_H
#define MELT_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef void (*sha256_blocks)(uint32_t state[8], const uint8_t *data, size_t n_blocks);

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
    sha256_blocks blocks;
};

/* MELT_SHA256 in the environment, "plain" or "vector", passes over what is faster: tests hold all ways against each other. */
void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *bytes, size_t length);
/* Writes 64 hexadecimal digits and a NUL. */
void sha256_end(struct sha256 *hash, char digits[65]);

/* What the files of SHA-256 share. */
extern const uint32_t SHA256_K[64];
/* A way that this CPU is faster at, by its instructions for SHA-256 or else by vectors; NULL where it has none. */
sha256_blocks sha256_by_cpu(bool own_instructions);

static inline uint32_t sha256_rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* One round; `kw` is its constant plus its word. The caller turns the names round instead of the values, which saves
   seven moves a round. (e & f) and (~e & g) share no bit, and a sum may be reordered where an "or" may not. */
#define SHA256_ROUND(a, b, c, d, e, f, g, h, kw)                                                            \
    do {                                                                                                    \
        uint32_t t1 = (h) + (sha256_rotate(e, 6) ^ sha256_rotate(e, 11) ^ sha256_rotate(e, 25)) +           \
                      (((e) & (f)) + (~(e) & (g))) + (kw);                                                  \
        (d) += t1;                                                                                          \
        (h) = t1 + (sha256_rotate(a, 2) ^ sha256_rotate(a, 13) ^ sha256_rotate(a, 22)) +                    \
              (((a) & (b)) | ((c) & ((a) | (b))));                                                          \
    } while (0)

#endif
