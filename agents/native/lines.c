#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "platform.h"

int lines_open(struct lines *lines, uint16_t source) {
    int fds[2];
    lines->fd = -1;
    lines->source = source;
    if (pipe_cloexec(fds))
        return -1;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    lines->fd = fds[0];
    return fds[1];
}

static void keep(struct lines *lines, struct journal *journal, int64_t t_ns, const char *bytes, size_t length) {
    if (!lines->partial.length)
        lines->partial_ns = t_ns;
    while (length) {
        size_t room = MAX_LINE_BYTES - lines->partial.length, part = length < room ? length : room;
        text_add(&lines->partial, bytes, part);
        bytes += part;
        length -= part;
        if (part == room && length) { /* something follows, so the line goes on */
            journal_add_line(journal, lines->source, lines->partial_ns, true, lines->partial.data, MAX_LINE_BYTES);
            lines->partial.length = 0;
            lines->partial_ns = t_ns;
        }
    }
}

static void finish_line(struct lines *lines, struct journal *journal, int64_t t_ns, const char *bytes, size_t length) {
    if (!lines->partial.length && length <= MAX_LINE_BYTES) {
        journal_add_line(journal, lines->source, t_ns, false, bytes, length);
        return;
    }
    keep(lines, journal, t_ns, bytes, length);
    journal_add_line(journal, lines->source, lines->partial_ns, false, lines->partial.data, lines->partial.length);
    lines->partial.length = 0;
}

static void end_of_output(struct lines *lines, struct journal *journal) {
    if (lines->partial.length)
        finish_line(lines, journal, lines->partial_ns, "", 0);
    text_free(&lines->partial);
    close(lines->fd);
    lines->fd = -1;
}

bool lines_read(struct lines *lines, struct journal *journal) {
    static char chunk[65536];
    ssize_t n;
    do
        n = read(lines->fd, chunk, sizeof chunk);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            end_of_output(lines, journal);
        return false;
    }
    int64_t t_ns = monotonic_ns();
    const char *at = chunk, *end = chunk + n, *newline;
    for (; (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1)
        finish_line(lines, journal, t_ns, at, (size_t)(newline - at));
    keep(lines, journal, t_ns, at, (size_t)(end - at));
    return true;
}

void lines_close(struct lines *lines, struct journal *journal) {
    /* Whoever inherited the pipe may write on and on: take what fits in a pipe, not more. */
    for (int i = 0; lines->fd >= 0 && i < 16 && lines_read(lines, journal); i++)
        continue;
    if (lines->fd >= 0)
        end_of_output(lines, journal);
}
