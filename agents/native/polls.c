#include "polls.h"

#include "platform.h"

#include <stdlib.h>
#include <string.h>

#define MAX_OUT_BYTES (1u << 20)
#define TRIP_RUNS 3

void poller_prepare(struct poller *poller, const struct job_poll *job, int64_t start_ns) {
    *poller = (struct poller){.job = job, .due_ns = start_ns};
    program_prepare(&poller->program, MAX_OUT_BYTES);
    poller->over = checked_realloc(NULL, (job->n_trips + 1) * sizeof *poller->over);
    memset(poller->over, 0, (job->n_trips + 1) * sizeof *poller->over);
}

/* The text within a line, which ends at `end` and has no zero behind it. */
static const char *find(const char *line, const char *end, const char *text) {
    size_t length = strlen(text);
    for (; (size_t)(end - line) >= length; line++)
        if (!memcmp(line, text, length))
            return line;
    return NULL;
}

static bool read_value(const struct job_poll_trip *trip, const struct text *out, long long *value) {
    bool found = false;
    const char *line = out->data, *all_end = out->data + out->length;
    while (line && line < all_end) {
        const char *newline = memchr(line, '\n', (size_t)(all_end - line)), *end = newline ? newline : all_end;
        const char *at = find(line, end, trip->before);
        if (at && find(line, end, trip->besides)) {
            char number[32] = "", *number_end;
            at += strlen(trip->before);
            size_t length = (size_t)(end - at);
            memcpy(number, at, length < sizeof number ? length : sizeof number - 1);
            long long said = strtoll(number, &number_end, 10);
            if (number_end != number) {
                *value = said;
                found = true;
            }
        }
        line = newline ? newline + 1 : NULL;
    }
    return found;
}

static void check_trips(struct poller *poller) {
    for (size_t i = 0; i < poller->job->n_trips; i++) {
        long long value = 0;
        bool is_over = read_value(&poller->job->trips[i], &poller->program.out.kept, &value) &&
                       value > poller->job->trips[i].limit;
        poller->over[i] = is_over ? poller->over[i] + 1 : 0;
        if (poller->over[i] == TRIP_RUNS && !poller->tripped) {
            poller->tripped_value = value;
            poller->tripped = i + 1;
        }
    }
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
    check_trips(poller);
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
