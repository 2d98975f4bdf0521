/* SHA-256 by the instructions of x86 (SHA-NI) and of ARMv8 (crypto extension). The binary is for the oldest CPU of its
   kind, so these functions alone are compiled for a newer one, and only called where the CPU says that it is one. */
#include "sha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#define CPU __attribute__((target("sha,sse4.1,ssse3")))

/* The instructions want the state as (A B E F) and (C D G H), highest first, and do two rounds each. */
CPU static void cpu_blocks(uint32_t state[8], const uint8_t *data, size_t n_blocks) {
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

sha256_blocks sha256_by_cpu(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
        return NULL;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 29 ? cpu_blocks : NULL;
}

#elif defined(__aarch64__)

#include <arm_neon.h>
#ifdef __linux__
#include <sys/auxv.h>
#define HWCAP_OF_SHA2 (1ul << 6) /* HWCAP_SHA2 in the kernel's arch/arm64/include/uapi/asm/hwcap.h */
#endif

#define CPU __attribute__((target("+crypto")))

CPU static void cpu_blocks(uint32_t state[8], const uint8_t *data, size_t n_blocks) {
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; n_blocks; n_blocks--, data += 64) {
        const uint32x4_t abcd_before = abcd, efgh_before = efgh;
        uint32x4_t w[4];
        for (int i = 0; i < 4; i++)
            w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) { /* four rounds each */
            const uint32x4_t now = vaddq_u32(w[i % 4], vld1q_u32(SHA256_K + 4 * i)), abcd_was = abcd;
            abcd = vsha256hq_u32(abcd, efgh, now);
            efgh = vsha256h2q_u32(efgh, abcd_was, now);
            if (i < 12) /* the words of four times four rounds later */
                w[i % 4] = vsha256su1q_u32(vsha256su0q_u32(w[i % 4], w[(i + 1) % 4]), w[(i + 2) % 4], w[(i + 3) % 4]);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

sha256_blocks sha256_by_cpu(void) {
#ifdef __linux__
    return getauxval(AT_HWCAP) & HWCAP_OF_SHA2 ? cpu_blocks : NULL;
#else
    return cpu_blocks; /* every Mac with an ARM processor has them */
#endif
}

#else

sha256_blocks sha256_by_cpu(void) { return NULL; }

#endif
