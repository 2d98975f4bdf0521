#include "runner.h"

#include <signal.h>
#include <unistd.h>

#include "platform.h"

#define PATIENCE_NS (2 * NS_PER_S) /* from SIGTERM to SIGKILL */

void runner_prepare(struct runner *runner) {
    *runner = (struct runner){.out.fd = -1, .err.fd = -1, .ended.exit_code = -1, .ended.signal = -1};
}

static void add_affinity(const struct runner *runner, const struct job *job, struct text *event) {
    struct text list = {0};
    text_format(event, ",\"affinity_asked\":");
    text_json_string(event, job->affinity);
    text_format(event, ",\"affinity\":");
    text_json_string(event, affinity_get(runner->child.pid, &list) ? list.data : NULL);
    text_free(&list);
}

bool runner_start(struct runner *runner, const struct job *job, struct journal *journal, void (*record)(void *),
                  void *argument) {
    runner->oom_before = oom_kill_count();
    int out = lines_open(&runner->out, 0), err = lines_open(&runner->err, 1);
    struct child_plan plan = {job->runner, job->cwd, job->env, job->affinity, true, out, err};
    struct child_failure failure = {0};
    bool started = child_start(&runner->child, &plan, record, argument, &failure);
    close(out), close(err);
    struct text event = event_begin(started ? "runner_started" : "runner_not_started");
    if (started) {
        text_format(&event, ",\"pid\":%d", (int)runner->child.pid);
        add_affinity(runner, job, &event);
    } else {
        text_format(&event, ",\"errno\":%d,\"message\":", failure.error);
        text_json_string(&event, failure.message.data);
        runner_close(runner, journal);
    }
    event_end(journal, &event);
    text_free(&failure.message);
    return started;
}

bool runner_ask_end(struct runner *runner) {
    if (runner->kill_ns)
        return false;
    runner->kill_ns = monotonic_ns() + PATIENCE_NS;
    child_signal(&runner->child, SIGTERM);
    return true;
}

void runner_insist(struct runner *runner) {
    if (runner->kill_ns && monotonic_ns() >= runner->kill_ns) {
        child_signal(&runner->child, SIGKILL);
        runner->kill_ns = INT64_MAX;
    }
}

static long long timeval_ns(struct timeval t) { return t.tv_sec * NS_PER_S + t.tv_usec * 1000LL; }

bool runner_ended(struct runner *runner, struct journal *journal) {
    if (!child_ended(&runner->child, &runner->ended))
        return false;
    const struct rusage *usage = &runner->ended.usage;
    int64_t oom_after = oom_kill_count();
    bool oom_known = runner->oom_before >= 0 && oom_after >= 0;
    struct text event = event_begin("runner_exited");
    exit_fields(&runner->ended, &event);
    text_format(&event, ",\"user_cpu_ns\":%lld,\"system_cpu_ns\":%lld", timeval_ns(usage->ru_utime),
                timeval_ns(usage->ru_stime));
    text_format(&event, ",\"max_rss_bytes\":%lld,\"minor_faults\":%ld,\"major_faults\":%ld",
                (long long)(usage->ru_maxrss * MAXRSS_UNIT_BYTES), usage->ru_minflt, usage->ru_majflt);
    text_format(&event, ",\"voluntary_switches\":%ld,\"involuntary_switches\":%ld", usage->ru_nvcsw, usage->ru_nivcsw);
    text_format(&event, ",\"oom_kill\":%s", !oom_known ? "null" : oom_after > runner->oom_before ? "true" : "false");
    event_end(journal, &event);
    return true;
}

bool runner_output_is_over(const struct runner *runner) { return runner->out.fd < 0 && runner->err.fd < 0; }

void runner_close(struct runner *runner, struct journal *journal) {
    lines_close(&runner->out, journal);
    lines_close(&runner->err, journal);
}
