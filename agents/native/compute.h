/* Loops of nothing but multiply-adds, by what this CPU can do: the ceiling of its arithmetic. */
#ifndef MELT_COMPUTE_H
#define MELT_COMPUTE_H

#include <stdbool.h>
#include <stdint.h>

/* All values are these two, so each multiply-add adds their product to the sum of a loop's results: a loop that did
   other work than it is credited with gives itself away. 2000 steps overflow no 32 bits, and a float counts exactly. */
#define COMPUTE_A 3
#define COMPUTE_B 2
#define COMPUTE_STEPS 2000

struct compute_kernel {
    const char *kind;        /* "int8": 8-bit integers, summed in 32 bits; "f32": single precision */
    const char *path;        /* the instructions, as the kernel of the system names them */
    int64_t macs_per_step;   /* multiply-adds */
    bool (*is_there)(void);  /* whether this CPU has them */
    int64_t (*run)(int steps); /* returns the sum of all results */
};

/* The fastest of each kind first, plain C last; ends with a NULL kind. */
extern const struct compute_kernel COMPUTE_KERNELS[];

bool compute_always(void);
int64_t compute_int8_plain(int steps);
int64_t compute_f32_plain(int steps);

#define COMPUTE_PLAIN_VALUES 64 /* a step of plain C */

/* Results are added to in turn, as many as hide how long one addition takes. Of the 16 registers of x86 the factors, and
   what lies between, take the others. The compiler must not see that a value stays the same, or it would take the
   multiplication out of the loop. */
#ifdef __aarch64__
#define COMPUTE_LANES 16
#define COMPUTE_OPAQUE(value) __asm__ volatile("" : "+w"(value))
#else
#define COMPUTE_LANES 12
#define COMPUTE_OPAQUE(value) __asm__ volatile("" : "+x"(value))
#endif

/* Unrolled, so that each result stays in its register. */
#define COMPUTE_LOOP(steps, what)              \
    for (int step = 0; step < (steps); step++) \
        _Pragma("GCC unroll 16") for (int lane = 0; lane < COMPUTE_LANES; lane++) what

#endif
