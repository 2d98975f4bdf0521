/* SHA-256 by what newer x86 processors have. The binary is for the oldest of them, so these functions alone are compiled
   for a newer one, and only called where the CPU says that it is one. */
#include "sha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#define WITH_SHA __attribute__((target("sha,sse4.1,ssse3")))
#define WITH_VECTORS __attribute__((target("avx,bmi,bmi2")))

/* Its own instructions. They want the state as (A B E F) and (C D G H), highest first, and do two rounds each. */
WITH_SHA static void sha_blocks(uint32_t state[8], const uint8_t *data, size_t n_blocks) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i dcba = _mm_loadu_si128((const __m128i *)state), hgfe = _mm_loadu_si128((const __m128i *)(state + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1), efgh = _mm_shuffle_epi32(hgfe, 0x1B);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
    for (; n_blocks; n_blocks--, data += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data + i), swap);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) { /* four rounds each */
            __m128i now = _mm_add_epi32(w[i % 4], _mm_loadu_si128((const __m128i *)SHA256_K + i));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, now);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(now, 0x0E));
            if (i < 12) { /* the words of four times four rounds later */
                __m128i sum = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
                sum = _mm_add_epi32(sum, _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));
                w[i % 4] = _mm_sha256msg2_epu32(sum, w[(i + 3) % 4]);
            }
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

#define ROTATE_EACH(x, n) _mm_or_si128(_mm_srli_epi32(x, n), _mm_slli_epi32(x, 32 - (n)))

/* The words of sixteen rounds later, four at a time. A word depends on the one two before it, so the last term is added
   to the lower two first, and from these to the upper two. Each of the two lies twice in `pairs`, which makes a 64-bit
   shift a rotation of its lower half. */
WITH_VECTORS static inline __m128i last_term(__m128i pairs) {
    return _mm_xor_si128(_mm_xor_si128(_mm_srli_epi64(pairs, 17), _mm_srli_epi64(pairs, 19)), _mm_srli_epi32(pairs, 10));
}

WITH_VECTORS static inline __m128i later_words(__m128i w0, __m128i w1, __m128i w2, __m128i w3) {
    const __m128i to_lower = _mm_set_epi32(-1, -1, 0x0b0a0908, 0x03020100);
    const __m128i to_upper = _mm_set_epi32(0x0b0a0908, 0x03020100, -1, -1);
    __m128i x = _mm_alignr_epi8(w1, w0, 4);
    __m128i sum = _mm_xor_si128(_mm_xor_si128(ROTATE_EACH(x, 7), ROTATE_EACH(x, 18)), _mm_srli_epi32(x, 3));
    sum = _mm_add_epi32(_mm_add_epi32(sum, w0), _mm_alignr_epi8(w3, w2, 4));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi8(last_term(_mm_shuffle_epi32(w3, 0xFA)), to_lower));
    return _mm_add_epi32(sum, _mm_shuffle_epi8(last_term(_mm_shuffle_epi32(sum, 0x50)), to_upper));
}

/* Vectors make the words beside the rounds, which the CPU then does at the same time. */
WITH_VECTORS static void vector_blocks(uint32_t state[8], const uint8_t *data, size_t n_blocks) {
    const __m128i swap = _mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    const __m128i *k = (const __m128i *)SHA256_K;
    for (; n_blocks; n_blocks--, data += 64) {
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        __m128i w[4], now[4]; /* the words, and their sums with the constants */
        for (int i = 0; i < 4; i++) {
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data + i), swap);
            now[i] = _mm_add_epi32(w[i], _mm_loadu_si128(k + i));
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            uint32_t kw[4];
            memcpy(kw, &now[i % 4], sizeof kw);
            if (i < 12) {
                w[i % 4] = later_words(w[i % 4], w[(i + 1) % 4], w[(i + 2) % 4], w[(i + 3) % 4]);
                now[i % 4] = _mm_add_epi32(w[i % 4], _mm_loadu_si128(k + i + 4));
            }
            if (i % 2 == 0) {
                SHA256_ROUND(a, b, c, d, e, f, g, h, kw[0]);
                SHA256_ROUND(h, a, b, c, d, e, f, g, kw[1]);
                SHA256_ROUND(g, h, a, b, c, d, e, f, kw[2]);
                SHA256_ROUND(f, g, h, a, b, c, d, e, kw[3]);
            } else {
                SHA256_ROUND(e, f, g, h, a, b, c, d, kw[0]);
                SHA256_ROUND(d, e, f, g, h, a, b, c, kw[1]);
                SHA256_ROUND(c, d, e, f, g, h, a, b, kw[2]);
                SHA256_ROUND(b, c, d, e, f, g, h, a, kw[3]);
            }
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

/* Whether the system keeps the registers that AVX has more than SSE. */
static bool avx_is_kept(unsigned basic) {
    unsigned low, high;
    if (!(basic & bit_OSXSAVE) || !(basic & bit_AVX))
        return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
}

sha256_blocks sha256_by_cpu(bool own_instructions) {
    const unsigned BMI = 1u << 3 | 1u << 8, SHA = 1u << 29; /* of leaf 7: BMI1 and BMI2 */
    unsigned a, b, d, basic, features;
    if (!__get_cpuid(1, &a, &b, &basic, &d) || !(basic & bit_SSSE3) || !__get_cpuid_count(7, 0, &a, &features, &b, &d))
        return NULL;
    if (own_instructions && features & SHA && basic & bit_SSE4_1)
        return sha_blocks;
    return (features & BMI) == BMI && avx_is_kept(basic) ? vector_blocks : NULL;
}

#endif
