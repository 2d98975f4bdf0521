#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "jobdir.h"
#include "journal.h"
#include "platform.h"
#include "polls.h"
#include "prepares.h"
#include "runner.h"
#include "sampler.h"
#include "streams.h"
#include "version.h"

#define DRAIN_NS (NS_PER_S / 2) /* for output that is still in the pipes */
#define STREAM_PATIENCE_NS (NS_PER_S / 4)
#define SELF_EVERY_NS NS_PER_S
#define FIXED_FDS 5 /* signals, the runner, what prepares */

enum phase { PREPARING, BEFORE, RUNNING, DRAINING, AFTER, CLOSING, OVER };

struct worker {
    const struct job *job;
    int dir;
    struct journal journal;
    struct sampler sampler;
    struct pids pids;
    enum phase phase;
    int64_t phase_ends_ns; /* INT64_MAX: something else ends it */
    bool in_a_hurry;       /* somebody said stop: no lingering */
    bool told_trip;
    const char *reason;
    struct prepares prepares;
    struct runner runner;
    struct stream *streams;
    struct poller *pollers;
    struct pollfd *fds;
    int64_t self_ns;
};

static int wake_pipe[2];
static volatile sig_atomic_t stop_signalled;

static void on_signal(int signal) {
    int error = errno;
    if (signal == SIGTERM)
        stop_signalled = 1;
    (void)!write(wake_pipe[1], "", 1);
    errno = error;
}

static void on_nudge(int signal) { (void)signal; } /* only ends the sampler's sleep */

/* Signals reach the main thread alone: block them here, start the threads, then unblock them. */
static void take_signals(sigset_t *ours) {
    struct sigaction wake = {.sa_handler = on_signal}, nudge = {.sa_handler = on_nudge};
    sigaction(SIGTERM, &wake, NULL);
    sigaction(SIGCHLD, &wake, NULL);
    sigaction(SIGUSR1, &nudge, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is told by write() */
    sigemptyset(ours);
    sigaddset(ours, SIGTERM);
    sigaddset(ours, SIGCHLD);
    sigprocmask(SIG_BLOCK, ours, NULL);
}

static void write_meta(struct worker *w) {
    struct text meta = {0};
    text_format(&meta, "{\"run\":");
    text_json_string(&meta, w->job->run);
    text_format(&meta, ",\"agent\":\"%s\",\"protocol\":%d,\"t_ns\":%lld,\"realtime_ns\":%lld,\"boottime_ns\":%lld",
                MELT_AGENT_VERSION, PROTOCOL, (long long)monotonic_ns(), (long long)realtime_ns(),
                (long long)boottime_ns());
    text_format(&meta, ",\"boot_id\":");
    text_json_string(&meta, *boot_id() ? boot_id() : NULL);
    text_format(&meta, ",\"pid\":%d,\"os\":\"%s\",\"arch\":\"%s\",\"page_size\":%ld,\"clock_ticks_per_s\":%ld}",
                (int)getpid(), PLATFORM_OS, PLATFORM_ARCH, sysconf(_SC_PAGESIZE), sysconf(_SC_CLK_TCK));
    journal_add_text(&w->journal, 'M', &meta);
    text_free(&meta);
}

static void write_self(struct worker *w) {
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    struct text event = event_begin("self");
    int64_t rss_bytes = own_rss_bytes();
    text_format(&event, ",\"cpu_ns\":%lld", (long long)(cpu.tv_sec * NS_PER_S + cpu.tv_nsec));
    text_format(&event, rss_bytes < 0 ? ",\"rss_bytes\":null" : ",\"rss_bytes\":%lld", (long long)rss_bytes);
    text_format(&event, ",\"journal_bytes\":%lld", (long long)w->journal.bytes);
    sampler_counts(&w->sampler, &event);
    event_end(&w->journal, &event);
}

static void note(struct process *process, const struct child *child) {
    if (child->pid && child->pid != process->pid)
        *process = process_of(child->pid);
}

/* Called whenever a child has a number but does not run yet. */
static void record_pids(void *argument) {
    struct worker *w = argument;
    struct process *others = w->pids.others;
    if (!w->pids.runner.pid)
        note(&w->pids.runner, &w->runner.child);
    for (size_t i = 0; i < w->job->n_streams; i++)
        note(others++, &w->streams[i].child);
    for (size_t i = 0; i < w->job->n_polls; i++)
        note(others++, &w->pollers[i].program.child);
    note(others, &w->prepares.program.child);
    pids_write(w->dir, &w->pids);
}

static void enter(struct worker *w, enum phase phase, int64_t lasts_ns) {
    w->phase = phase;
    w->phase_ends_ns = lasts_ns == INT64_MAX ? INT64_MAX : monotonic_ns() + lasts_ns;
}

static void close_down(struct worker *w) {
    for (size_t i = 0; i < w->job->n_streams; i++)
        child_signal(&w->streams[i].child, SIGTERM);
    for (size_t i = 0; i < w->job->n_polls; i++)
        program_kill(&w->pollers[i].program);
    enter(w, CLOSING, STREAM_PATIENCE_NS);
}

static void start_runner(struct worker *w) {
    if (runner_start(&w->runner, w->job, &w->journal, record_pids, w)) {
        w->sampler.runner = w->runner.child.pid;
        enter(w, RUNNING, w->job->timeout_ms ? w->job->timeout_ms * NS_PER_MS : INT64_MAX);
    } else {
        w->reason = "runner_not_started";
        close_down(w);
    }
}

static void end_runner(struct worker *w, const char *reason) {
    if (runner_ask_end(&w->runner)) {
        w->reason = reason;
        enter(w, RUNNING, INT64_MAX); /* its time does not matter any more */
    }
}

/* Ends the job before its time, whatever it is doing. */
static void cut_short(struct worker *w, const char *reason) {
    if (w->phase == RUNNING)
        end_runner(w, reason);
    else if (w->phase == PREPARING || w->phase == BEFORE || w->phase == AFTER) {
        if (!w->reason)
            w->reason = reason;
        if (w->phase != PREPARING) /* there the program that runs is waited for */
            close_down(w);
    }
}

/* `which` begins the event's fields: a file, or a poll and which of its limits. */
static void tell_trip(struct worker *w, const char *which, long long value, long long limit) {
    struct text event = event_begin("tripped");
    text_format(&event, "%s,\"value\":%lld,\"limit\":%lld", which, value, limit);
    event_end(&w->journal, &event);
    w->told_trip = true;
    if (w->phase <= RUNNING)
        cut_short(w, "tripped");
}

/* The first limit that is exceeded ends the runner; what follows from its heat is not told again. */
static void check_limits(struct worker *w) {
    int tripped = w->sampler.tripped;
    char which[64];
    if (tripped > 0 && !w->told_trip) {
        const struct job_trip *trip = &w->job->trips[tripped - 1];
        snprintf(which, sizeof which, ",\"cid\":%u", trip->cid);
        tell_trip(w, which, w->sampler.tripped_value, trip->limit);
    }
    for (size_t i = 0; i < w->job->n_polls && !w->told_trip; i++) {
        const struct poller *poller = &w->pollers[i];
        if (!poller->tripped)
            continue;
        snprintf(which, sizeof which, ",\"sid\":%u,\"poll_trip\":%zu", poller->job->sid, poller->tripped - 1);
        tell_trip(w, which, poller->tripped_value, poller->job->trips[poller->tripped - 1].limit);
    }
}

static void check_requests(struct worker *w) {
    if (stop_signalled && !w->in_a_hurry) {
        struct text event = event_begin("stop_requested");
        event_end(&w->journal, &event);
        w->in_a_hurry = true;
        cut_short(w, "stopped");
    }
    check_limits(w);
}

static void step(struct worker *w) {
    check_requests(w);
    int64_t now_ns = monotonic_ns();
    bool due = now_ns >= w->phase_ends_ns, programs_left = false;
    for (size_t i = 0; i < w->job->n_streams; i++) {
        struct stream *stream = &w->streams[i];
        stream_check(stream, w->phase < CLOSING, &w->journal);
        if (w->phase < CLOSING)
            stream_start_if_due(stream, &w->journal, record_pids, w);
        programs_left |= stream->child.pid != 0;
    }
    for (size_t i = 0; i < w->job->n_polls; i++) {
        poller_step(&w->pollers[i], w->phase < CLOSING, &w->journal, record_pids, w);
        programs_left |= w->pollers[i].program.child.pid != 0;
    }
    if (w->phase == PREPARING) {
        if (prepares_step(&w->prepares, w->reason != NULL, &w->journal, record_pids, w)) {
            if (w->reason)
                close_down(w);
            else
                enter(w, BEFORE, w->job->linger_ms * NS_PER_MS);
        }
    } else if (w->phase == RUNNING) {
        runner_insist(&w->runner);
        if (runner_ended(&w->runner, &w->journal)) {
            w->sampler.runner = 0;
            if (!w->reason)
                w->reason = "completed";
            enter(w, DRAINING, DRAIN_NS);
        } else if (due) {
            struct text event = event_begin("timeout");
            event_end(&w->journal, &event);
            end_runner(w, "timeout");
        }
    } else if (w->phase == BEFORE && due) {
        if (w->job->runner) {
            start_runner(w);
        } else {
            w->reason = "completed";
            close_down(w);
        }
    } else if (w->phase == DRAINING && (due || runner_output_is_over(&w->runner))) {
        runner_close(&w->runner, &w->journal);
        int64_t rest_ms = w->job->recovery_ms > w->job->linger_ms ? w->job->recovery_ms : w->job->linger_ms;
        enter(w, AFTER, w->in_a_hurry ? 0 : rest_ms * NS_PER_MS);
    } else if (w->phase == AFTER && due) {
        close_down(w);
    } else if (w->phase == CLOSING && due) {
        for (size_t i = 0; i < w->job->n_streams; i++)
            child_signal(&w->streams[i].child, SIGKILL);
        w->phase_ends_ns = INT64_MAX;
    }
    if (w->phase == CLOSING && !programs_left)
        w->phase = OVER;
    if (now_ns >= w->self_ns) {
        write_self(w);
        w->self_ns = now_ns + SELF_EVERY_NS;
    }
}

static int64_t next_deadline_ns(const struct worker *w) {
    int64_t next_ns = w->self_ns < w->phase_ends_ns ? w->self_ns : w->phase_ends_ns;
    if (w->phase == RUNNING && w->runner.kill_ns && w->runner.kill_ns < next_ns)
        next_ns = w->runner.kill_ns;
    for (size_t i = 0; i < w->job->n_streams && w->phase < CLOSING; i++)
        if (w->streams[i].start_ns < next_ns)
            next_ns = w->streams[i].start_ns;
    for (size_t i = 0; i < w->job->n_polls; i++) {
        int64_t poll_ns = poller_next_ns(&w->pollers[i], w->phase < CLOSING);
        if (poll_ns < next_ns)
            next_ns = poll_ns;
    }
    int64_t limit_ns = program_limit_ns(&w->prepares.program);
    return limit_ns < next_ns ? limit_ns : next_ns;
}

/* Sleeps until there is output, a signal, a trip or a deadline, and journals the output. */
static void wait_and_read(struct worker *w) {
    struct pollfd *fds = w->fds;
    size_t n = 0, n_streams = w->job->n_streams, n_polls = w->job->n_polls;
    fds[n++].fd = wake_pipe[0];
    fds[n++].fd = w->runner.out.fd;
    fds[n++].fd = w->runner.err.fd;
    fds[n++].fd = w->prepares.program.out.fd;
    fds[n++].fd = w->prepares.program.err.fd;
    for (size_t i = 0; i < n_streams; i++) {
        fds[n++].fd = w->streams[i].out.fd;
        fds[n++].fd = w->streams[i].err;
    }
    for (size_t i = 0; i < n_polls; i++) {
        fds[n++].fd = w->pollers[i].program.out.fd;
        fds[n++].fd = w->pollers[i].program.err.fd;
    }
    for (size_t i = 0; i < n; i++) {
        fds[i].events = POLLIN;
        fds[i].revents = 0;
    }
    int64_t left_ns = next_deadline_ns(w) - monotonic_ns();
    if (poll(fds, (nfds_t)n, left_ns <= 0 ? 0 : (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS)) <= 0)
        return;
    char drain[64];
    if (fds[0].revents)
        (void)!read(wake_pipe[0], drain, sizeof drain);
    if (fds[1].revents)
        lines_read(&w->runner.out, &w->journal);
    if (fds[2].revents)
        lines_read(&w->runner.err, &w->journal);
    if (fds[3].revents || fds[4].revents)
        program_read(&w->prepares.program);
    fds += FIXED_FDS;
    for (size_t i = 0; i < n_streams; i++, fds += 2) {
        if (fds[0].revents)
            lines_read(&w->streams[i].out, &w->journal);
        if (fds[1].revents)
            stream_read_err(&w->streams[i]);
    }
    for (size_t i = 0; i < n_polls; i++, fds += 2)
        if (fds[0].revents || fds[1].revents)
            program_read(&w->pollers[i].program);
}

static bool begin(struct worker *w, int answer_fd) {
    struct text answer = {0};
    bool ok = !pipe_cloexec(wake_pipe);
    if (ok) {
        fcntl(wake_pipe[0], F_SETFL, O_NONBLOCK);
        fcntl(wake_pipe[1], F_SETFL, O_NONBLOCK);
        ok = journal_open(&w->journal, w->dir);
    }
    if (ok) {
        write_meta(w);
        end_reserve(w->dir);
        ok = pids_write(w->dir, &w->pids);
    }
    if (ok)
        text_format(&answer, "ok %d", (int)getpid());
    else if (errno == EEXIST)
        text_format(&answer, "this job was started before: use a new folder");
    else
        text_format(&answer, "the journal cannot be opened: %s", strerror(errno));
    write_all(answer_fd, answer.data, answer.length);
    close(answer_fd);
    text_free(&answer);
    return ok;
}

static void finish(struct worker *w) {
    struct text restored = {0}, event = {0};
    sampler_stop(&w->sampler);
    write_self(w);
    restores_run(w->job, &restored);
    struct end end = {w->reason, monotonic_ns(), w->runner.ended.exit_code, w->runner.ended.signal, &restored,
                      w->journal.full_errno, true, false};
    text_format(&event, "{\"event\":\"end\",");
    end_fields(&end, &event);
    journal_add_text(&w->journal, 'E', &event);
    journal_close(&w->journal);
    end.journal_errno = w->journal.full_errno;
    end_write(w->dir, &end);
    text_free(&restored);
    text_free(&event);
}

int supervise(const struct job *job, int dir, int answer_fd) {
    static struct worker w; /* too large for a small stack, and there is one */
    sigset_t signals;
    w = (struct worker){.job = job, .dir = dir};
    runner_prepare(&w.runner);
    w.pids.guardian = process_of(getppid());
    w.pids.worker = process_of(getpid());
    pids_boot(&w.pids);
    w.pids.n_others = job->n_streams + job->n_polls + 1;
    w.pids.others = calloc(w.pids.n_others, sizeof *w.pids.others);
    w.streams = calloc(job->n_streams + 1, sizeof *w.streams);
    w.pollers = calloc(job->n_polls + 1, sizeof *w.pollers);
    w.fds = calloc(FIXED_FDS + 2 * (job->n_streams + job->n_polls), sizeof *w.fds);
    if (!w.pids.others || !w.streams || !w.pollers || !w.fds)
        return EXIT_NOT_BEGUN;
    prepares_begin(&w.prepares, job);
    child_raise_file_limit();
    take_signals(&signals);
    if (!begin(&w, answer_fd))
        return EXIT_NOT_BEGUN;
    int64_t now_ns = monotonic_ns();
    w.self_ns = now_ns;
    for (size_t i = 0; i < job->n_streams; i++)
        stream_prepare(&w.streams[i], &job->streams[i], now_ns);
    enter(&w, PREPARING, INT64_MAX);
    if (!sampler_start(&w.sampler, job, &w.journal, wake_pipe[1]))
        return 1; /* no thread to be had: the guardian sees to the end */
    for (size_t i = 0; i < job->n_polls; i++)
        poller_prepare(&w.pollers[i], &job->polls[i], w.sampler.start_ns);
    sigprocmask(SIG_UNBLOCK, &signals, NULL);
    while (w.phase != OVER) {
        step(&w);
        if (w.phase != OVER)
            wait_and_read(&w);
    }
    finish(&w);
    return 0;
}
