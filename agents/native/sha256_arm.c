/* SHA-256 by the crypto extension of ARMv8. The binary is for processors without it too, so this function alone is
   compiled for it, and only called where the kernel says that it is there. */
#include "sha256.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#ifdef __linux__
#include <sys/auxv.h>
#define HWCAP_OF_SHA2 (1ul << 6) /* HWCAP_SHA2 in the kernel's arch/arm64/include/uapi/asm/hwcap.h */
#endif

#define WITH_SHA __attribute__((target("+crypto")))

WITH_SHA static void sha_blocks(uint32_t state[8], const uint8_t *data, size_t n_blocks) {
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

sha256_blocks sha256_by_cpu(bool own_instructions) {
    if (!own_instructions)
        return NULL;
#ifdef __linux__
    return getauxval(AT_HWCAP) & HWCAP_OF_SHA2 ? sha_blocks : NULL;
#else
    return sha_blocks; /* every Mac with an ARM processor has them */
#endif
}

#endif
