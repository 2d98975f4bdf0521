/* Measures how fast all CPUs together multiply and add what lies in their registers: no other program can do better. */
#include "compute.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform.h"
#include "util.h"
#include "verbs.h"

#define DEFAULT_MS 400
#define WINDOWS 8 /* of each kind, the best of which counts: others may have disturbed one */
#define OPS_PER_MAC 2

struct worker {
    pthread_t thread;
    const struct compute_kernel *kernel;
    int64_t begin_ns, window_ns;
    double macs_per_s[WINDOWS];
    bool miscounted;
};

bool compute_always(void) { return true; }

int64_t compute_int8_plain(int steps) {
    int8_t a[COMPUTE_PLAIN_VALUES], b[COMPUTE_PLAIN_VALUES];
    int32_t sum = 0;
    memset(a, COMPUTE_A, sizeof a);
    memset(b, COMPUTE_B, sizeof b);
    for (int step = 0; step < steps; step++) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
        for (int i = 0; i < COMPUTE_PLAIN_VALUES; i++)
            sum += a[i] * b[i];
    }
    return sum;
}

int64_t compute_f32_plain(int steps) {
    float a[COMPUTE_PLAIN_VALUES], b[COMPUTE_PLAIN_VALUES], sums[COMPUTE_PLAIN_VALUES] = {0};
    int64_t sum = 0;
    for (int i = 0; i < COMPUTE_PLAIN_VALUES; i++)
        a[i] = COMPUTE_A, b[i] = COMPUTE_B;
    for (int step = 0; step < steps; step++) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
        for (int i = 0; i < COMPUTE_PLAIN_VALUES; i++)
            sums[i] += a[i] * b[i];
    }
    for (int i = 0; i < COMPUTE_PLAIN_VALUES; i++)
        sum += (int64_t)sums[i];
    return sum;
}

/* Each worker counts what it does itself: a small core then adds what it can, and holds no big one back. */
static void *worker_main(void *argument) {
    struct worker *worker = argument;
    const struct compute_kernel *kernel = worker->kernel;
    for (int window = 0; window < WINDOWS; window++) {
        int64_t from_ns = monotonic_ns(), until_ns = worker->begin_ns + (window + 1) * worker->window_ns, now_ns;
        int64_t macs = 0;
        do {
            int64_t done = COMPUTE_STEPS * kernel->macs_per_step;
            worker->miscounted |= kernel->run(COMPUTE_STEPS) != done * COMPUTE_A * COMPUTE_B;
            macs += done;
            now_ns = monotonic_ns();
        } while (now_ns < until_ns);
        worker->macs_per_s[window] = (double)macs * 1e9 / (double)(now_ns - from_ns);
    }
    return NULL;
}

/* MELT_COMPUTE in the environment names a path that is taken where the CPU has it: tests go through all of them. */
static const struct compute_kernel *choose(const char *kind) {
    const char *asked = getenv("MELT_COMPUTE");
    const struct compute_kernel *fastest = NULL;
    for (const struct compute_kernel *kernel = COMPUTE_KERNELS; kernel->kind; kernel++) {
        if (strcmp(kernel->kind, kind) || !kernel->is_there())
            continue;
        if (asked && !strcmp(kernel->path, asked))
            return kernel;
        if (!fastest)
            fastest = kernel;
    }
    return fastest;
}

/* The calling thread is the first worker. Returns a negative number when a thread cannot be had, or miscounts. */
static double best_ops_per_s(const struct compute_kernel *kernel, struct worker *workers, int threads, int64_t ms) {
    struct worker work = {.kernel = kernel, .begin_ns = monotonic_ns(), .window_ns = ms * NS_PER_MS / WINDOWS};
    double best = 0;
    for (int i = threads - 1; i >= 0; i--) {
        workers[i] = work;
        int error = i ? pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) : 0;
        if (error) {
            complain("compute: thread %d: %s", i, strerror(error));
            return -1;
        }
    }
    worker_main(&workers[0]);
    for (int i = 1; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    for (int window = 0; window < WINDOWS; window++) {
        double sum = 0;
        for (int i = 0; i < threads; i++)
            sum += workers[i].macs_per_s[window];
        best = sum > best ? sum : best;
    }
    for (int i = 0; i < threads; i++)
        if (workers[i].miscounted) {
            complain("compute: %s by %s computes something else than it counts", kernel->kind, kernel->path);
            return -1;
        }
    return best * OPS_PER_MAC;
}

int verb_compute(int64_t threads, int64_t ms) {
    static const char *const KINDS[] = {"int8", "f32"};
    const int n_kinds = sizeof KINDS / sizeof *KINDS;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int n = (int)(threads ? threads : cpus > 0 ? cpus : 1);
    struct worker *workers = checked_realloc(NULL, (size_t)n * sizeof *workers);
    struct text answer = {0};
    for (int i = 0; i < n_kinds; i++) {
        const struct compute_kernel *kernel = choose(KINDS[i]);
        double ops_per_s = best_ops_per_s(kernel, workers, n, (ms ? ms : DEFAULT_MS) / n_kinds);
        if (ops_per_s < 0)
            return 1;
        text_format(&answer, "\"%s_ops_per_s\":%.0f,\"%s_path\":\"%s\",", kernel->kind, ops_per_s, kernel->kind,
                    kernel->path);
    }
    printf("{%s\"threads\":%d}\n", answer.data, n);
    text_free(&answer);
    free(workers);
    return 0;
}
