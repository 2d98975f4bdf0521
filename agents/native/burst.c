/* Keeps the CPUs busy and idle in a pattern, so that a meter outside can be laid beside this machine's clock. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform.h"
#include "verbs.h"

struct burst {
    pthread_mutex_t lock;
    pthread_cond_t begun;
    atomic_bool busy;
    bool over;
};

static void spin(const struct burst *burst, int64_t until_ns) {
    volatile double heat = 1.0; /* arithmetic draws more than a loop that only looks at the clock */
    while (burst->busy && monotonic_ns() < until_ns)
        for (int i = 0; i < 256; i++)
            heat = heat * 1.0000001 + 1e-9;
}

static void *helper_main(void *argument) {
    struct burst *burst = argument;
    pthread_mutex_lock(&burst->lock);
    while (!burst->over) {
        while (!burst->busy && !burst->over)
            pthread_cond_wait(&burst->begun, &burst->lock);
        pthread_mutex_unlock(&burst->lock);
        spin(burst, INT64_MAX);
        pthread_mutex_lock(&burst->lock);
    }
    pthread_mutex_unlock(&burst->lock);
    return NULL;
}

static void begin(struct burst *burst, bool busy, bool over) {
    pthread_mutex_lock(&burst->lock);
    burst->busy = busy;
    burst->over = over;
    pthread_cond_broadcast(&burst->begun);
    pthread_mutex_unlock(&burst->lock);
}

/* The calling thread is the first that is busy. */
int verb_burst(int64_t threads, const int64_t *steps_ms, int n) {
    struct burst burst = {.lock = PTHREAD_MUTEX_INITIALIZER, .begun = PTHREAD_COND_INITIALIZER};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t helpers = (threads ? threads : cpus > 0 ? cpus : 1) - 1;
    pthread_t *started = checked_realloc(NULL, (size_t)(helpers + 1) * sizeof *started);
    for (int64_t i = 0; i < helpers; i++) {
        int error = pthread_create(&started[i], NULL, helper_main, &burst);
        if (error) {
            complain("burst: thread %lld: %s", (long long)(i + 1), strerror(error));
            return 1;
        }
    }
    struct text spans = {0};
    for (int step = 0; step < n; step++) {
        int64_t begun_ns = monotonic_ns(), until_ns = begun_ns + steps_ms[step] * NS_PER_MS;
        if (step % 2) {
            while (monotonic_ns() < until_ns)
                sleep_until_ns(until_ns);
            continue;
        }
        begin(&burst, true, false);
        spin(&burst, until_ns);
        burst.busy = false;
        text_format(&spans, "%s[%lld,%lld]", step ? "," : "", (long long)begun_ns, (long long)monotonic_ns());
    }
    begin(&burst, false, true);
    for (int64_t i = 0; i < helpers; i++)
        pthread_join(started[i], NULL);
    free(started);
    printf("{\"threads\":%lld,\"busy_ns\":[%s]}\n", (long long)(helpers + 1), spans.data);
    text_free(&spans);
    return 0;
}
