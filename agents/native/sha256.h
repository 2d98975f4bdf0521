/* SHA-256, FIPS 180-4, with the CPU's own instructions where it has them. */
#ifndef MELT_SHA256_H
#define MELT_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef void (*sha256_blocks)(uint32_t state[8], const uint8_t *data, size_t n_blocks);

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
    sha256_blocks blocks;
};

/* The environment's MELT_SHA256=plain passes over the CPU's instructions, so that tests can hold both against each other. */
void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *bytes, size_t length);
/* Writes 64 hexadecimal digits and a NUL. */
void sha256_end(struct sha256 *hash, char digits[65]);

/* What sha256.c and sha256_cpu.c share. */
extern const uint32_t SHA256_K[64];
/* The blocks by this CPU's instructions, NULL where it has none. */
sha256_blocks sha256_by_cpu(void);

#endif
