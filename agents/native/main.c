/* melt-agent: samples files, supervises a runner, journals. The contract is agents/PROTOCOL.md. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "verbs.h"
#include "util.h"

#define MOST_BURST_STEPS 63

static int usage(void) {
    fputs("usage: melt-agent VERB ...\n"
          "  version\n"
          "  check|start|status|stop|recover JOBDIR\n"
          "  tail JOBDIR OFFSET [--follow]\n"
          "  clock\n"
          "  hash [--known] PATH...\n"
          "  read GLOB...\n"
          "  receive PATH SIZE OFFSET SHA256\n"
          "  stored FOLDER\n"
          "  bandwidth [--threads N] [--bytes B] [--seconds S]\n"
          "  compute [--threads N] [--ms M]\n"
          "  burst [--threads N] BUSY_MS [IDLE_MS BUSY_MS]...\n",
          stderr);
    return 2;
}

static int tail(int n, char **args) {
    int64_t offset;
    bool follow = n == 3 && !strcmp(args[2], "--follow");
    if (n < 2 || (n > 2 && !follow) || !parse_int(args[1], 0, INT64_MAX, &offset))
        return usage();
    return verb_tail(args[0], offset, follow);
}

static int bandwidth(int n, char **args) {
    int64_t threads = 0, bytes = 0, seconds = 0;
    for (; n >= 2; n -= 2, args += 2) {
        bool ok = !strcmp(args[0], "--threads")   ? parse_int(args[1], 1, 1024, &threads)
                  : !strcmp(args[0], "--bytes")   ? parse_int(args[1], 1 << 20, 1LL << 40, &bytes)
                  : !strcmp(args[0], "--seconds") ? parse_int(args[1], 1, 600, &seconds)
                                                  : false;
        if (!ok)
            return usage();
    }
    return n ? usage() : verb_bandwidth(threads, bytes, seconds);
}

static int compute(int n, char **args) {
    int64_t threads = 0, ms = 0;
    for (; n >= 2; n -= 2, args += 2) {
        bool ok = !strcmp(args[0], "--threads") ? parse_int(args[1], 1, 1024, &threads)
                  : !strcmp(args[0], "--ms")    ? parse_int(args[1], 1, 600000, &ms)
                                                : false;
        if (!ok)
            return usage();
    }
    return n ? usage() : verb_compute(threads, ms);
}

static int burst(int n, char **args) {
    int64_t threads = 0, steps_ms[MOST_BURST_STEPS];
    if (n >= 2 && !strcmp(args[0], "--threads")) {
        if (!parse_int(args[1], 1, 1024, &threads))
            return usage();
        n -= 2;
        args += 2;
    }
    if (n % 2 != 1 || n > MOST_BURST_STEPS)
        return usage();
    for (int i = 0; i < n; i++)
        if (!parse_int(args[i], 1, 1000, &steps_ms[i]))
            return usage();
    return verb_burst(threads, steps_ms, n);
}

static int hash(int n, char **args) {
    bool known = n && !strcmp(args[0], "--known");
    return n > known ? verb_hash(args + known, known) : usage();
}

static int receive(int n, char **args) {
    int64_t size, offset;
    if (n != 4 || !parse_int(args[1], 0, INT64_MAX, &size) || !parse_int(args[2], 0, size, &offset) ||
        strlen(args[3]) != 64 || strspn(args[3], "0123456789abcdef") != 64)
        return usage();
    return verb_receive(args[0], size, offset, args[3]);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*act)(const char *job_dir);
    } JOB_VERBS[] = {
        {"start", verb_start}, {"status", verb_status},   {"stop", verb_stop},
        {"check", verb_check}, {"recover", verb_recover},
    };
    if (argc < 2)
        return usage();
    const char *verb = argv[1];
    int n = argc - 2;
    char **args = argv + 2;
    signal(SIGPIPE, SIG_IGN); /* whoever listened is told apart by write() */
    for (size_t i = 0; i < sizeof JOB_VERBS / sizeof *JOB_VERBS; i++)
        if (!strcmp(verb, JOB_VERBS[i].name))
            return n == 1 ? JOB_VERBS[i].act(args[0]) : usage();
    if (!strcmp(verb, "tail"))
        return tail(n, args);
    if (!strcmp(verb, "version"))
        return n ? usage() : verb_version();
    if (!strcmp(verb, "clock"))
        return n ? usage() : verb_clock();
    if (!strcmp(verb, "hash"))
        return hash(n, args);
    if (!strcmp(verb, "receive"))
        return receive(n, args);
    if (!strcmp(verb, "stored"))
        return n == 1 ? verb_stored(args[0]) : usage();
    if (!strcmp(verb, "read"))
        return n ? verb_read(args) : usage();
    if (!strcmp(verb, "bandwidth"))
        return bandwidth(n, args);
    if (!strcmp(verb, "compute"))
        return compute(n, args);
    if (!strcmp(verb, "burst"))
        return burst(n, args);
    return usage();
}
