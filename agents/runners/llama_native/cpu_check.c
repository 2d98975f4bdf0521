/* Refuse a CPU that this build is not for, before any code compiled for a better one runs.
 *
 * C, compiled at the architecture's baseline, and run as the first constructor: C++ objects of ggml-cpu are initialised
 * after it, and none of its inline functions can be merged with one that was compiled for the variant. */

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* Bits of AT_HWCAP and AT_HWCAP2: Linux, arch/arm64/include/uapi/asm/hwcap.h. The kernel sets what every core has. */
static int has(const char * feature) {
    unsigned long first = getauxval(16), second = getauxval(26);
    if (strcmp(feature, "atomics") == 0) return first >> 8 & 1;
    if (strcmp(feature, "asimdhp") == 0) return first >> 10 & 1;
    if (strcmp(feature, "asimddp") == 0) return first >> 20 & 1;
    if (strcmp(feature, "i8mm") == 0) return second >> 13 & 1;
    return 0;
}
#elif defined(__x86_64__)
#include <cpuid.h>

/* Bits of CPUID leaves 1, 7 and 0x80000001, and of XCR0 (the system saves the wide registers): Intel SDM, volume 2A. */
static int has(const char * feature) {
    unsigned a = 0, b = 0, one_c = 0, seven_b = 0, extended_c = 0, d = 0, low = 0, high = 0;
    __get_cpuid(1, &a, &b, &one_c, &d);
    __get_cpuid_count(7, 0, &a, &seven_b, &b, &d);
    __get_cpuid(0x80000001, &a, &b, &extended_c, &d);
    if (one_c >> 27 & 1) __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    int wide = (low & 6) == 6;
    if (strcmp(feature, "ssse3") == 0) return one_c >> 9 & 1;
    if (strcmp(feature, "sse4_2") == 0) return one_c >> 20 & 1;
    if (strcmp(feature, "popcnt") == 0) return one_c >> 23 & 1;
    if (strcmp(feature, "movbe") == 0) return one_c >> 22 & 1;
    if (strcmp(feature, "fma") == 0) return wide && one_c >> 12 & 1;
    if (strcmp(feature, "f16c") == 0) return wide && one_c >> 29 & 1;
    if (strcmp(feature, "avx2") == 0) return wide && seven_b >> 5 & 1;
    if (strcmp(feature, "bmi1") == 0) return seven_b >> 3 & 1;
    if (strcmp(feature, "bmi2") == 0) return seven_b >> 8 & 1;
    if (strcmp(feature, "abm") == 0) return extended_c >> 5 & 1;
    return 0;
}
#else
#error "cpu_check.c does not know the CPU features of this architecture"
#endif

const char * const melt_variant = MELT_VARIANT;

__attribute__((constructor(101))) static void check_cpu(void) {
    char needs[] = MELT_CPU_NEEDS, lacks[sizeof needs + 1] = "", line[512];
    for (char * feature = strtok(needs, " "); feature; feature = strtok(NULL, " ")) {
        if (!has(feature)) strcat(strcat(lacks, " "), feature);
    }
    if (lacks[0] == '\0') return;
    int size = snprintf(line, sizeof line,
        "{\"event\":\"error\",\"code\":\"unsupported_cpu\",\"message\":"
        "\"this runner was built for the CPU variant %s, and this CPU lacks:%s\"}\n", melt_variant, lacks);
    ssize_t written = write(STDOUT_FILENO, line, (size_t) size);
    (void) written;
    _exit(1);
}
