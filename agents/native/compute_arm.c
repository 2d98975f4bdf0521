/* Multiply-adds by what ARM processors have. The binary is for the oldest of them, so each function is compiled for its
   own instructions, and only called where the kernel says that they are there. */
#include "compute.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <stddef.h>
#ifdef __linux__
#include <sys/auxv.h>
#else
#include <sys/sysctl.h>
#endif

#define WITH_I8MM __attribute__((target("i8mm")))
#define WITH_DOTPROD __attribute__((target("dotprod")))

static int64_t sum_of(const int32x4_t *lanes) {
    int64_t sum = 0;
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        sum += vaddlvq_s32(lanes[lane]);
    return sum;
}

static void clear(int32x4_t *lanes) {
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        lanes[lane] = vdupq_n_s32(0);
}

/* Two rows of eight values by two of eight: 32 multiply-adds. */
WITH_I8MM static int64_t int8_i8mm(int steps) {
    int8x16_t a = vdupq_n_s8(COMPUTE_A), b = vdupq_n_s8(COMPUTE_B);
    int32x4_t lanes[COMPUTE_LANES];
    clear(lanes);
    COMPUTE_LOOP(steps, {
        COMPUTE_OPAQUE(a);
        lanes[lane] = vmmlaq_s32(lanes[lane], a, b);
    })
    return sum_of(lanes);
}

WITH_DOTPROD static int64_t int8_dotprod(int steps) {
    int8x16_t a = vdupq_n_s8(COMPUTE_A), b = vdupq_n_s8(COMPUTE_B);
    int32x4_t lanes[COMPUTE_LANES];
    clear(lanes);
    COMPUTE_LOOP(steps, {
        COMPUTE_OPAQUE(a);
        lanes[lane] = vdotq_s32(lanes[lane], a, b);
    })
    return sum_of(lanes);
}

/* Without instructions for it: products of 16 bits, two of them added, then pairs to 32 bits. */
static int64_t int8_asimd(int steps) {
    int8x16_t a = vdupq_n_s8(COMPUTE_A), b = vdupq_n_s8(COMPUTE_B);
    int32x4_t lanes[COMPUTE_LANES];
    clear(lanes);
    COMPUTE_LOOP(steps, {
        COMPUTE_OPAQUE(a);
        int16x8_t products = vmull_s8(vget_low_s8(a), vget_low_s8(b));
        lanes[lane] = vpadalq_s16(lanes[lane], vmlal_high_s8(products, a, b));
    })
    return sum_of(lanes);
}

static int64_t f32_asimd(int steps) {
    float32x4_t a = vdupq_n_f32(COMPUTE_A), b = vdupq_n_f32(COMPUTE_B), lanes[COMPUTE_LANES];
    int64_t sum = 0;
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        lanes[lane] = vdupq_n_f32(0);
    COMPUTE_LOOP(steps, {
        COMPUTE_OPAQUE(a);
        lanes[lane] = vfmaq_f32(lanes[lane], a, b);
    })
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        sum += (int64_t)vaddvq_f32(lanes[lane]);
    return sum;
}

#ifdef __linux__
/* Bits of AT_HWCAP and AT_HWCAP2: Linux, arch/arm64/include/uapi/asm/hwcap.h. The kernel sets what every core has. */
static bool has_i8mm(void) { return getauxval(AT_HWCAP2) & 1ul << 13; }
static bool has_dotprod(void) { return getauxval(AT_HWCAP) & 1ul << 20; }
#else
static bool has(const char *feature) {
    int value = 0;
    size_t size = sizeof value;
    return !sysctlbyname(feature, &value, &size, NULL, 0) && value;
}
static bool has_i8mm(void) { return has("hw.optional.arm.FEAT_I8MM"); }
static bool has_dotprod(void) { return has("hw.optional.arm.FEAT_DotProd"); }
#endif

const struct compute_kernel COMPUTE_KERNELS[] = {
    {"int8", "i8mm", COMPUTE_LANES * 32, has_i8mm, int8_i8mm},
    {"int8", "asimddp", COMPUTE_LANES * 16, has_dotprod, int8_dotprod},
    {"int8", "asimd", COMPUTE_LANES * 16, compute_always, int8_asimd},
    {"int8", "plain", COMPUTE_PLAIN_VALUES, compute_always, compute_int8_plain},
    {"f32", "asimd", COMPUTE_LANES * 4, compute_always, f32_asimd},
    {"f32", "plain", COMPUTE_PLAIN_VALUES, compute_always, compute_f32_plain},
    {0},
};

#endif
