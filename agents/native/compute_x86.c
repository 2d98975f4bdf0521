/* Multiply-adds by what x86 processors have. The binary is for the oldest of them, so each function is compiled for its
   own instructions, and only called where the CPU has them. */
#include "compute.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <stddef.h>

#define WITH_AVX512_VNNI __attribute__((target("avx512f,avx512vnni")))
#define WITH_AVX_VNNI __attribute__((target("avx2,avxvnni")))
#define WITH_AVX2 __attribute__((target("avx2")))
#define WITH_AVX512F __attribute__((target("avx512f")))
#define WITH_FMA __attribute__((target("avx2,fma")))

static int64_t sum_of_ints(const int32_t *values, size_t n) {
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return sum;
}

static int64_t sum_of_floats(const float *values, size_t n) {
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (int64_t)values[i];
    return sum;
}

WITH_AVX512_VNNI static int64_t int8_avx512_vnni(int steps) {
    __m512i a = _mm512_set1_epi8(COMPUTE_A), b = _mm512_set1_epi8(COMPUTE_B), lanes[COMPUTE_LANES];
    int32_t results[COMPUTE_LANES * 16];
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        lanes[lane] = _mm512_setzero_si512();
    COMPUTE_LOOP(steps, {
        COMPUTE_OPAQUE(a);
        lanes[lane] = _mm512_dpbusd_epi32(lanes[lane], a, b);
    })
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        _mm512_storeu_si512(results + 16 * lane, lanes[lane]);
    return sum_of_ints(results, sizeof results / sizeof *results);
}

WITH_AVX_VNNI static int64_t int8_avx_vnni(int steps) {
    __m256i a = _mm256_set1_epi8(COMPUTE_A), b = _mm256_set1_epi8(COMPUTE_B), lanes[COMPUTE_LANES];
    int32_t results[COMPUTE_LANES * 8];
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        lanes[lane] = _mm256_setzero_si256();
    COMPUTE_LOOP(steps, {
        COMPUTE_OPAQUE(a);
        lanes[lane] = _mm256_dpbusd_avx_epi32(lanes[lane], a, b);
    })
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        _mm256_storeu_si256((__m256i *)(results + 8 * lane), lanes[lane]);
    return sum_of_ints(results, sizeof results / sizeof *results);
}

/* Three instructions for what later ones do in one. */
WITH_AVX2 static int64_t int8_avx2(int steps) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a = _mm256_set1_epi8(COMPUTE_A), b = _mm256_set1_epi8(COMPUTE_B), lanes[COMPUTE_LANES];
    int32_t results[COMPUTE_LANES * 8];
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        lanes[lane] = _mm256_setzero_si256();
    COMPUTE_LOOP(steps, {
        COMPUTE_OPAQUE(a);
        __m256i pairs = _mm256_maddubs_epi16(a, b);
        lanes[lane] = _mm256_add_epi32(lanes[lane], _mm256_madd_epi16(pairs, ones));
    })
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        _mm256_storeu_si256((__m256i *)(results + 8 * lane), lanes[lane]);
    return sum_of_ints(results, sizeof results / sizeof *results);
}

WITH_AVX512F static int64_t f32_avx512f(int steps) {
    __m512 a = _mm512_set1_ps(COMPUTE_A), b = _mm512_set1_ps(COMPUTE_B), lanes[COMPUTE_LANES];
    float results[COMPUTE_LANES * 16];
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        lanes[lane] = _mm512_setzero_ps();
    COMPUTE_LOOP(steps, {
        COMPUTE_OPAQUE(a);
        lanes[lane] = _mm512_fmadd_ps(a, b, lanes[lane]);
    })
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        _mm512_storeu_ps(results + 16 * lane, lanes[lane]);
    return sum_of_floats(results, sizeof results / sizeof *results);
}

WITH_FMA static int64_t f32_fma(int steps) {
    __m256 a = _mm256_set1_ps(COMPUTE_A), b = _mm256_set1_ps(COMPUTE_B), lanes[COMPUTE_LANES];
    float results[COMPUTE_LANES * 8];
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        lanes[lane] = _mm256_setzero_ps();
    COMPUTE_LOOP(steps, {
        COMPUTE_OPAQUE(a);
        lanes[lane] = _mm256_fmadd_ps(a, b, lanes[lane]);
    })
    for (int lane = 0; lane < COMPUTE_LANES; lane++)
        _mm256_storeu_ps(results + 8 * lane, lanes[lane]);
    return sum_of_floats(results, sizeof results / sizeof *results);
}

/* A leaf of CPUID; all zero where the CPU has none of that number. */
struct leaf {
    unsigned a, b, c, d;
};

static struct leaf leaf(unsigned number, unsigned part) {
    struct leaf found = {0};
    __get_cpuid_count(number, part, &found.a, &found.b, &found.c, &found.d);
    return found;
}

/* Whether the system keeps registers of `bits` of XCR0: 6 those of AVX, 0xE6 those of AVX-512 too. */
static bool is_kept(unsigned bits) {
    unsigned low, high;
    if (!(leaf(1, 0).c & bit_OSXSAVE))
        return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & bits) == bits;
}

static bool has_avx2(void) { return is_kept(6) && leaf(7, 0).b & 1u << 5; }
static bool has_fma(void) { return has_avx2() && leaf(1, 0).c & 1u << 12; }
static bool has_avx_vnni(void) { return has_avx2() && leaf(7, 1).a & 1u << 4; }
static bool has_avx512f(void) { return is_kept(0xE6) && leaf(7, 0).b & 1u << 16; }
static bool has_avx512_vnni(void) { return has_avx512f() && leaf(7, 0).c & 1u << 11; }

const struct compute_kernel COMPUTE_KERNELS[] = {
    {"int8", "avx512_vnni", COMPUTE_LANES * 64, has_avx512_vnni, int8_avx512_vnni},
    {"int8", "avx_vnni", COMPUTE_LANES * 32, has_avx_vnni, int8_avx_vnni},
    {"int8", "avx2", COMPUTE_LANES * 32, has_avx2, int8_avx2},
    {"int8", "plain", COMPUTE_PLAIN_VALUES, compute_always, compute_int8_plain},
    {"f32", "avx512f", COMPUTE_LANES * 16, has_avx512f, f32_avx512f},
    {"f32", "fma", COMPUTE_LANES * 8, has_fma, f32_fma},
    {"f32", "plain", COMPUTE_PLAIN_VALUES, compute_always, compute_f32_plain},
    {0},
};

#endif
