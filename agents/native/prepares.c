#include "prepares.h"

#define MAX_OUT_BYTES 4096

void prepares_begin(struct prepares *prepares, const struct job *job) {
    *prepares = (struct prepares){.job = job};
    program_prepare(&prepares->program, MAX_OUT_BYTES);
}

static void add_kept(struct text *event, const char *name, const struct text *kept) {
    text_format(event, ",\"%s\":", name);
    text_json(event, kept->length ? kept->data : "", kept->length);
}

static void one_is_over(struct prepares *prepares, const struct child_exit *ended, struct journal *journal) {
    struct text event = event_begin("prepared");
    text_format(&event, ",\"name\":");
    text_json_string(&event, prepares->job->prepares[prepares->next].name);
    exit_fields(ended, &event);
    add_kept(&event, "stdout", &prepares->program.out.kept);
    add_kept(&event, "stderr", &prepares->program.err.kept);
    event_end(journal, &event);
    prepares->next++;
}

bool prepares_step(struct prepares *prepares, bool cut_short, struct journal *journal, void (*record)(void *),
                   void *argument) {
    const struct job *job = prepares->job;
    struct program *program = &prepares->program;
    struct child_exit ended;
    if (cut_short)
        program_kill(program);
    if (program->child.pid) {
        if (!program_ended(program, &ended))
            return false;
        one_is_over(prepares, &ended, journal);
    }
    while (!cut_short && prepares->next < job->n_prepares) {
        if (program_start(program, job->prepares[prepares->next].argv, record, argument))
            return false;
        one_is_over(prepares, NULL, journal);
    }
    return true;
}
