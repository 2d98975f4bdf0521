#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "platform.h"

#define MAX_RESTARTS 3
#define PAUSE_NS NS_PER_S

void stream_prepare(struct stream *stream, const struct job_stream *job, int64_t start_ns) {
    *stream = (struct stream){.job = job, .out.fd = -1, .err = -1, .start_ns = start_ns};
}

static void stream_is_over(struct stream *stream, struct journal *journal, const struct child_exit *ended) {
    struct text event = event_begin("stream_ended");
    text_format(&event, ",\"sid\":%u,\"restarts\":%d", stream->job->sid, stream->restarts);
    exit_fields(ended, &event);
    text_format(&event, ",\"stderr\":");
    text_json(&event, stream->said, stream->said_bytes);
    event_end(journal, &event);
    stream->start_ns = stream->restarts < MAX_RESTARTS ? monotonic_ns() + PAUSE_NS : INT64_MAX;
    stream->restarts++;
}

void stream_start_if_due(struct stream *stream, struct journal *journal, void (*record)(void *), void *argument) {
    if (monotonic_ns() < stream->start_ns)
        return;
    stream->start_ns = INT64_MAX;
    stream->said_bytes = 0;
    int out = lines_open(&stream->out, stream->job->sid), err[2] = {-1, -1};
    if (!pipe_cloexec(err))
        fcntl(err[0], F_SETFL, O_NONBLOCK);
    stream->err = err[0];
    struct child_plan plan = {.argv = stream->job->argv, .out = out, .err = err[1]};
    struct child_failure failure = {0};
    bool started = child_start(&stream->child, &plan, record, argument, &failure);
    close(out), close(err[1]);
    if (started)
        return;
    stream->said_bytes = failure.message.length < sizeof stream->said ? failure.message.length : sizeof stream->said;
    memcpy(stream->said, failure.message.data, stream->said_bytes);
    text_free(&failure.message);
    lines_close(&stream->out, journal);
    close(stream->err);
    stream->err = -1;
    stream_is_over(stream, journal, NULL);
}

void stream_read_err(struct stream *stream) {
    char chunk[1024];
    ssize_t n = read(stream->err, chunk, sizeof chunk);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            close(stream->err);
            stream->err = -1;
        }
        return;
    }
    size_t fresh = (size_t)n < sizeof stream->said ? (size_t)n : sizeof stream->said;
    size_t kept = stream->said_bytes + fresh > sizeof stream->said ? sizeof stream->said - fresh : stream->said_bytes;
    memmove(stream->said, stream->said + stream->said_bytes - kept, kept);
    memcpy(stream->said + kept, chunk + n - fresh, fresh);
    stream->said_bytes = kept + fresh;
}

void stream_check(struct stream *stream, bool job_goes_on, struct journal *journal) {
    struct child_exit ended;
    if (!child_ended(&stream->child, &ended))
        return;
    lines_close(&stream->out, journal);
    if (stream->err >= 0) {
        stream_read_err(stream);
        close(stream->err);
        stream->err = -1;
    }
    if (job_goes_on)
        stream_is_over(stream, journal, &ended);
}
