#include "sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const uint32_t SHA256_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static void compress(uint32_t state[8], const uint8_t *block) {
    uint32_t w[64];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + (sha256_rotate(x, 7) ^ sha256_rotate(x, 18) ^ x >> 3) + w[i - 7] + (sha256_rotate(y, 17) ^ sha256_rotate(y, 19) ^ y >> 10);
    }
    for (int i = 0; i < 64; i += 8) {
        const uint32_t *k = SHA256_K + i, *v = w + i;
        SHA256_ROUND(a, b, c, d, e, f, g, h, k[0] + v[0]);
        SHA256_ROUND(h, a, b, c, d, e, f, g, k[1] + v[1]);
        SHA256_ROUND(g, h, a, b, c, d, e, f, k[2] + v[2]);
        SHA256_ROUND(f, g, h, a, b, c, d, e, k[3] + v[3]);
        SHA256_ROUND(e, f, g, h, a, b, c, d, k[4] + v[4]);
        SHA256_ROUND(d, e, f, g, h, a, b, c, k[5] + v[5]);
        SHA256_ROUND(c, d, e, f, g, h, a, b, k[6] + v[6]);
        SHA256_ROUND(b, c, d, e, f, g, h, a, k[7] + v[7]);
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void plain_blocks(uint32_t state[8], const uint8_t *data, size_t n_blocks) {
    for (; n_blocks; n_blocks--, data += 64)
        compress(state, data);
}

static sha256_blocks fastest(void) {
    const char *asked = getenv("MELT_SHA256");
    sha256_blocks by_cpu = asked && !strcmp(asked, "plain") ? NULL : sha256_by_cpu(!asked || strcmp(asked, "vector"));
    return by_cpu ? by_cpu : plain_blocks;
}

void sha256_begin(struct sha256 *hash) {
    *hash = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
                                      0x1f83d9ab, 0x5be0cd19},
                             .blocks = fastest()};
}

void sha256_add(struct sha256 *hash, const void *bytes, size_t length) {
    const uint8_t *at = bytes;
    size_t held = hash->bytes % 64;
    hash->bytes += length;
    if (held + length < 64) {
        memcpy(hash->block + held, at, length);
        return;
    }
    if (held) {
        memcpy(hash->block + held, at, 64 - held);
        hash->blocks(hash->state, hash->block, 1);
        at += 64 - held;
        length -= 64 - held;
    }
    hash->blocks(hash->state, at, length / 64);
    memcpy(hash->block, at + length / 64 * 64, length % 64);
}

void sha256_end(struct sha256 *hash, char digits[65]) {
    uint64_t bits = hash->bytes * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(hash, "\x80", 1);
    while (hash->bytes % 64 != 56)
        sha256_add(hash, "", 1);
    sha256_add(hash, length, sizeof length);
    for (int i = 0; i < 8; i++)
        snprintf(digits + 8 * i, 9, "%08x", hash->state[i]);
}
