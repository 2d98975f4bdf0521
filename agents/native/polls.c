#include "polls.h"

#include "platform.h"

#define MAX_OUT_BYTES (1u << 20)

void poller_prepare(struct poller *poller, const struct job_poll *job, int64_t start_ns) {
    *poller = (struct poller){.job = job, .due_ns = start_ns};
    program_prepare(&poller->program, MAX_OUT_BYTES);
}

static void run_is_over(struct poller *poller, const struct child_exit *ended, struct journal *journal) {
    const struct program *program = &poller->program;
    const struct text *out = &program->out.kept;
    bool failed = !ended || ended->exit_code != 0;
    /* What one that was killed had printed by then would pass for the whole; one that ended by itself has said it all. */
    if (!failed || (ended && ended->signal < 0 && out->length))
        journal_add_line(journal, poller->job->sid, program->started_ns, program->out.cut, out->length ? out->data : "",
                         out->length);
    if (failed && !poller->failing) {
        struct text event = event_begin("poll_failed");
        text_format(&event, ",\"sid\":%u", poller->job->sid);
        exit_fields(ended, &event);
        text_format(&event, ",\"stderr\":");
        text_json(&event, program->err.kept.length ? program->err.kept.data : "", program->err.kept.length);
        event_end(journal, &event);
    }
    poller->failing = failed;
    int64_t late = (monotonic_ns() - poller->due_ns) / poller->job->period_ns;
    poller->due_ns += (late + 1) * poller->job->period_ns;
}

void poller_step(struct poller *poller, bool job_goes_on, struct journal *journal, void (*record)(void *), void *argument) {
    struct child_exit ended;
    if (program_ended(&poller->program, &ended) && job_goes_on)
        run_is_over(poller, &ended, journal);
    if (job_goes_on && !poller->program.child.pid && monotonic_ns() >= poller->due_ns &&
        !program_start(&poller->program, poller->job->argv, record, argument))
        run_is_over(poller, NULL, journal);
}

int64_t poller_next_ns(const struct poller *poller, bool job_goes_on) {
    return poller->program.child.pid ? program_limit_ns(&poller->program) : job_goes_on ? poller->due_ns : INT64_MAX;
}
