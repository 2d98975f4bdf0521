/* SHA-256, FIPS 180-4. */
#ifndef MELT_SHA256_H
#define MELT_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
};

void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *bytes, size_t length);
/* Writes 64 hexadecimal digits and a NUL. */
void sha256_end(struct sha256 *hash, char digits[65]);

#endif
