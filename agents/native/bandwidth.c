/* Reads a buffer far larger than any cache, over and over, and reports the best pass. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform.h"
#include "verbs.h"

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define DEFAULT_BYTES (256LL << 20)
#define DEFAULT_SECONDS 2
#define LEAST_PASSES 3
#define LANES 8 /* independent sums, so that loads wait for memory only */

typedef uint64_t wide __attribute__((vector_size(32)));

struct reader {
    pthread_t thread;
    struct bench *bench;
    wide *part;
    size_t n; /* wide values, a multiple of LANES */
};

struct bench {
    struct reader *readers;
    int threads;
    atomic_int pass, ready; /* the pass under way; readers that are through with it */
    atomic_bool over;
    _Atomic uint64_t sum;   /* makes the loads count */
};

static uint64_t read_part(const struct reader *reader) {
    wide lanes[LANES] = {{0}}, all = {0};
    for (size_t i = 0; i < reader->n; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[lane] ^= reader->part[i + lane];
    for (size_t lane = 0; lane < LANES; lane++)
        all ^= lanes[lane];
    return all[0] ^ all[1] ^ all[2] ^ all[3];
}

static void prepare_part(struct reader *reader) {
    memset(reader->part, 0x5A, reader->n * sizeof *reader->part); /* who reads it touches it first: memory near it */
    reader->bench->ready++;
}

static void *reader_main(void *argument) {
    struct reader *reader = argument;
    struct bench *bench = reader->bench;
    prepare_part(reader);
    for (int pass = 0;; pass++) {
        while (bench->pass == pass && !bench->over) /* a sleeping thread would come late */
            continue;
        if (bench->over)
            return NULL;
        bench->sum ^= read_part(reader);
        bench->ready++;
    }
}

static void await_readers(const struct bench *bench) {
    while (bench->ready < bench->threads)
        sched_yield();
}

/* The calling thread is the first reader. */
static int64_t best_pass_ns(struct bench *bench, int64_t seconds, int *passes) {
    int64_t best_ns = INT64_MAX, limit_ns = monotonic_ns() + seconds * NS_PER_S;
    for (*passes = 0; *passes < LEAST_PASSES || monotonic_ns() < limit_ns; ++*passes) {
        bench->ready = 1;
        int64_t start_ns = monotonic_ns();
        bench->pass++;
        bench->sum ^= read_part(&bench->readers[0]);
        await_readers(bench);
        int64_t took_ns = monotonic_ns() - start_ns;
        if (took_ns < best_ns)
            best_ns = took_ns;
    }
    return best_ns;
}

int verb_bandwidth(int64_t threads, int64_t bytes, int64_t seconds) {
    struct bench bench = {0};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int passes = 0;
    bench.threads = (int)(threads ? threads : cpus > 0 ? cpus : 1);
    size_t each = (size_t)(bytes ? bytes : DEFAULT_BYTES) / (size_t)bench.threads / sizeof(wide) / LANES * LANES;
    size_t in_all = each * sizeof(wide) * (size_t)bench.threads;
    char *buffer = in_all ? mmap(NULL, in_all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    bench.readers = calloc((size_t)bench.threads, sizeof *bench.readers);
    if (buffer == MAP_FAILED || !bench.readers) {
        complain("bandwidth: no memory for %lld bytes", (long long)(bytes ? bytes : DEFAULT_BYTES));
        return 1;
    }
#ifdef MADV_HUGEPAGE
    madvise(buffer, in_all, MADV_HUGEPAGE);
#endif
    for (int i = 0; i < bench.threads; i++) {
        struct reader *reader = &bench.readers[i];
        *reader = (struct reader){.bench = &bench, .part = (wide *)(buffer + (size_t)i * each * sizeof(wide)), .n = each};
        int error = i ? pthread_create(&reader->thread, NULL, reader_main, reader) : 0;
        if (error) {
            complain("bandwidth: thread %d: %s", i, strerror(error));
            return 1;
        }
    }
    prepare_part(&bench.readers[0]);
    await_readers(&bench);
    int64_t best_ns = best_pass_ns(&bench, seconds ? seconds : DEFAULT_SECONDS, &passes);
    bench.over = true;
    for (int i = 1; i < bench.threads; i++)
        pthread_join(bench.readers[i].thread, NULL);
    printf("{\"bytes_per_s\":%.0f,\"threads\":%d,\"bytes\":%zu,\"passes\":%d}\n", (double)in_all * 1e9 / (double)best_ns,
           bench.threads, in_all, passes);
    return 0;
}
