#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "platform.h"

#define LIMIT_NS (10 * NS_PER_S)

void program_prepare(struct program *program, size_t out_limit) {
    *program = (struct program){.out = {.fd = -1, .limit = out_limit}, .err = {.fd = -1, .limit = PROGRAM_ERR_BYTES}};
}

/* Returns the end to write to, -1 where there is none: the program's words are then lost, it runs all the same. */
static int capture_open(struct capture *capture) {
    int fds[2];
    capture->cut = false;
    capture->kept.length = 0;
    if (pipe_cloexec(fds))
        return -1;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    capture->fd = fds[0];
    return fds[1];
}

static void capture_close(struct capture *capture) {
    if (capture->fd >= 0)
        close(capture->fd);
    capture->fd = -1;
}

/* False: nothing was there. */
static bool capture_read(struct capture *capture) {
    static char chunk[65536];
    if (capture->fd < 0)
        return false;
    ssize_t n = read(capture->fd, chunk, sizeof chunk);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            capture_close(capture);
        return false;
    }
    size_t room = capture->limit - capture->kept.length, fresh = (size_t)n < room ? (size_t)n : room;
    capture->cut |= fresh < (size_t)n;
    text_add(&capture->kept, chunk, fresh);
    return true;
}

static void capture_finish(struct capture *capture) {
    /* Somebody who inherited the pipe may write on and on: take what fits in a pipe, not more. */
    for (int i = 0; i < 16 && capture_read(capture); i++)
        continue;
    capture_close(capture);
}

bool program_start(struct program *program, char *const *argv, void (*record)(void *), void *argument) {
    int out = capture_open(&program->out), err = capture_open(&program->err);
    struct child_plan plan = {.argv = argv, .out = out, .err = err};
    struct child_failure failure = {0};
    program->started_ns = monotonic_ns();
    program->killed = false;
    bool started = child_start(&program->child, &plan, record, argument, &failure);
    close(out), close(err);
    if (!started) {
        capture_close(&program->out);
        capture_close(&program->err);
        text_add(&program->err.kept, failure.message.data, failure.message.length);
    }
    text_free(&failure.message);
    return started;
}

void program_read(struct program *program) {
    capture_read(&program->out);
    capture_read(&program->err);
}

bool program_ended(struct program *program, struct child_exit *ended) {
    if (monotonic_ns() >= program_limit_ns(program))
        program_kill(program);
    if (!child_ended(&program->child, ended))
        return false;
    capture_finish(&program->out);
    capture_finish(&program->err);
    return true;
}

void program_kill(struct program *program) {
    program->killed = true;
    child_signal(&program->child, SIGKILL);
}

int64_t program_limit_ns(const struct program *program) {
    return program->child.pid && !program->killed ? program->started_ns + LIMIT_NS : INT64_MAX;
}
