/* The least that sampling can cost: absolute sleeps, then a pread of each file, descriptors kept open.
 *
 *     bare_loop PERIOD_NS TICKS FILE...
 *
 * Prints the CPU time it took in ns, then the time of each tick on CLOCK_MONOTONIC in ns, a line each. The first tick
 * is due a period after the start and the others follow on that grid, as the agent's do. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: bare_loop PERIOD_NS TICKS FILE...\n");
        return 2;
    }
    int64_t period_ns = atoll(argv[1]);
    int ticks = atoi(argv[2]), files = argc - 3;
    int *fds = calloc((size_t)files, sizeof *fds);
    int64_t *times = calloc((size_t)ticks, sizeof *times);
    if (!fds || !times || period_ns <= 0)
        return 1;
    for (int i = 0; i < files; i++)
        fds[i] = open(argv[3 + i], O_RDONLY | O_CLOEXEC);
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    static char buffer[4096];
    int64_t due = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int tick = 0; tick < ticks; tick++) {
        due += period_ns;
        struct timespec t = {due / NS_PER_S, due % NS_PER_S};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) {
        }
        times[tick] = now_ns(CLOCK_MONOTONIC);
        for (int i = 0; i < files; i++)
            (void)!pread(fds[i], buffer, sizeof buffer, 0);
    }
    printf("%" PRId64 "\n", now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    for (int tick = 0; tick < ticks; tick++)
        printf("%" PRId64 "\n", times[tick]);
    return 0;
}
