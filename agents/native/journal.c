#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform.h"

#define FRAME_BYTES 8u
#define HEADER_BYTES 16u
#define BUFFER_BYTES (8u << 20) /* seconds of a slow disk at the highest rates; pages are used only when needed */
#define WRITE_EVERY_MS 100
#define SYNC_EVERY_NS NS_PER_S
#define RESERVE_BYTES (1u << 20)

static uint32_t crc_table[256];

static void crc_prepare(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
}

static uint32_t crc_update(uint32_t crc, const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        crc = crc_table[(crc ^ bytes[i]) & 0xFF] ^ (crc >> 8);
    return crc;
}

static size_t frame_bytes(const char *frame) {
    const uint8_t *f = (const uint8_t *)frame;
    return FRAME_BYTES + ((size_t)f[0] | (size_t)f[1] << 8 | (size_t)f[2] << 16 | (size_t)f[3] << 24);
}

/* Numbers are given when a frame goes out, so that frames left out on a full disk leave no hole. */
static void seal(const struct journal *journal, char *frame, uint32_t sequence) {
    uint8_t number[4];
    put32(number, sequence);
    uint32_t crc = crc_update(0xFFFFFFFFu, journal->nonce, sizeof journal->nonce);
    crc = crc_update(crc, number, sizeof number);
    crc = crc_update(crc, (uint8_t *)frame + FRAME_BYTES, frame_bytes(frame) - FRAME_BYTES);
    put32((uint8_t *)frame + 4, ~crc);
}

/* Writes the whole frames in `frames`. Returns the bytes of those that are whole on disk; less: errno says why. */
static size_t write_frames(struct journal *journal, char *frames, size_t length) {
    uint32_t sequence = journal->sequence;
    for (size_t at = 0; at < length; at += frame_bytes(frames + at))
        seal(journal, frames + at, sequence++);
    size_t written = 0, whole = 0;
    ssize_t n = 0;
    while (written < length) {
        n = write(journal->fd, frames + written, length - written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        written += (size_t)n;
    }
    int error = n == 0 ? EIO : errno;
    while (whole < length && whole + frame_bytes(frames + whole) <= written) {
        whole += frame_bytes(frames + whole);
        journal->sequence++;
    }
    journal->bytes += (int64_t)whole;
    if (whole < written) /* half a frame must not stand in front of the next one */
        journal->dead |= ftruncate(journal->fd, journal->bytes) || lseek(journal->fd, 0, SEEK_END) < 0;
    errno = error;
    return whole;
}

static size_t without_ticks(char *frames, size_t length) {
    size_t kept = 0;
    for (size_t at = 0, bytes; at < length; at += bytes) {
        bytes = frame_bytes(frames + at);
        if (frames[at + FRAME_BYTES] == 'T')
            continue;
        memmove(frames + kept, frames + at, bytes);
        kept += bytes;
    }
    return kept;
}

static void write_out(struct journal *journal, char *frames, size_t length) {
    if (journal->dead)
        return;
    if (!journal->full_errno) {
        size_t whole = write_frames(journal, frames, length);
        if (whole == length)
            return;
        /* The disk refused. Ticks end here; the room kept in reserve is for what the runner still says. */
        journal->full_errno = errno;
        frames += whole;
        length -= whole;
        unlinkat(journal->dir, "reserve", 0);
        struct text event = event_begin("journal_full");
        text_format(&event, ",\"errno\":%d}", journal->full_errno);
        struct text frame = {0};
        text_add(&frame, (uint8_t[FRAME_BYTES]){0}, FRAME_BYTES);
        put32((uint8_t *)frame.data, (uint32_t)event.length + 1);
        text_add(&frame, "E", 1);
        text_add(&frame, event.data, event.length);
        journal->dead |= write_frames(journal, frame.data, frame.length) != frame.length;
        text_free(&event);
        text_free(&frame);
    }
    length = without_ticks(frames, length);
    if (!journal->dead && length)
        journal->dead = write_frames(journal, frames, length) != length;
}

static void *writer_main(void *argument) {
    struct journal *journal = argument;
    int64_t synced_ns = monotonic_ns();
    bool dirty = false, closing = false;
    thread_accepts_late_timers();
    while (!closing) {
        pthread_mutex_lock(&journal->lock);
        size_t length = journal->filled;
        char *frames = journal->filling;
        journal->filling = journal->writing;
        journal->writing = frames;
        journal->filled = 0;
        closing = journal->closing;
        journal->writer_idle = !length;
        pthread_mutex_unlock(&journal->lock);
        if (length) {
            write_out(journal, frames, length);
            dirty = true;
        }
        int64_t since_ns = monotonic_ns() - synced_ns;
        if (dirty && (closing || since_ns >= SYNC_EVERY_NS)) {
            sync_data(journal->fd);
            synced_ns = monotonic_ns();
            dirty = false;
        }
        if (closing)
            break;
        /* With nothing to write, sleep until somebody adds something; who does then writes to the pipe, once. */
        int timeout_ms = length ? WRITE_EVERY_MS : dirty ? (int)((SYNC_EVERY_NS - since_ns) / NS_PER_MS) + 1 : -1;
        struct pollfd wake = {.fd = journal->wake[0], .events = POLLIN};
        char drain[64];
        if (poll(&wake, 1, timeout_ms) > 0)
            (void)!read(journal->wake[0], drain, sizeof drain);
    }
    return NULL;
}

/* Room on the disk that can be given back for the last records when it is full. Without it the job goes on all the same. */
static void keep_reserve(int dir) {
    static const char zeroes[65536];
    int fd = openat(dir, "reserve", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    for (size_t written = 0; written < RESERVE_BYTES; written += sizeof zeroes)
        if (!write_all(fd, zeroes, sizeof zeroes))
            break;
    close(fd);
}

bool journal_open(struct journal *journal, int dir) {
    *journal = (struct journal){.dir = dir};
    crc_prepare();
    journal->fd = openat(dir, "journal", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (journal->fd < 0)
        return false;
    int random = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    bool ok = random >= 0 && read(random, journal->nonce, sizeof journal->nonce) == (ssize_t)sizeof journal->nonce;
    if (random >= 0)
        close(random);
    char header[HEADER_BYTES] = "MELTJRN1";
    memcpy(header + 8, journal->nonce, sizeof journal->nonce);
    if (!ok || !write_all(journal->fd, header, sizeof header) || pipe_cloexec(journal->wake))
        return false;
    fcntl(journal->wake[0], F_SETFL, O_NONBLOCK);
    fcntl(journal->wake[1], F_SETFL, O_NONBLOCK);
    journal->bytes = HEADER_BYTES;
    journal->filling = checked_realloc(NULL, BUFFER_BYTES);
    journal->writing = checked_realloc(NULL, BUFFER_BYTES);
    pthread_mutex_init(&journal->lock, NULL);
    keep_reserve(dir);
    errno = pthread_create(&journal->writer, NULL, writer_main, journal);
    return errno == 0;
}

bool journal_add(struct journal *journal, const void *head, size_t head_bytes, const void *body, size_t body_bytes,
                 bool may_wait) {
    size_t needed = FRAME_BYTES + head_bytes + body_bytes;
    pthread_mutex_lock(&journal->lock);
    while (journal->filled + needed > BUFFER_BYTES) {
        pthread_mutex_unlock(&journal->lock);
        if (!may_wait)
            return false;
        sleep_until_ns(monotonic_ns() + NS_PER_MS);
        pthread_mutex_lock(&journal->lock);
    }
    char *frame = journal->filling + journal->filled;
    put32((uint8_t *)frame, (uint32_t)(head_bytes + body_bytes));
    memcpy(frame + FRAME_BYTES, head, head_bytes);
    if (body_bytes)
        memcpy(frame + FRAME_BYTES + head_bytes, body, body_bytes);
    journal->filled += needed;
    bool wake = journal->writer_idle;
    journal->writer_idle = false;
    pthread_mutex_unlock(&journal->lock);
    if (wake)
        (void)!write(journal->wake[1], "", 1);
    return true;
}

void journal_add_text(struct journal *journal, char kind, const struct text *json) {
    journal_add(journal, &kind, 1, json->data, json->length, true);
}

void journal_add_line(struct journal *journal, uint16_t source, int64_t t_ns, bool cut, const char *line, size_t length) {
    uint8_t head[12] = {'L'};
    put16(head + 1, source);
    put64(head + 3, (uint64_t)t_ns);
    head[11] = cut;
    journal_add(journal, head, sizeof head, line, length, true);
}

struct text event_begin(const char *name) {
    struct text event = {0};
    text_format(&event, "{\"event\":\"%s\",\"t_ns\":%lld", name, (long long)monotonic_ns());
    return event;
}

void event_end(struct journal *journal, struct text *event) {
    text_add(event, "}", 1);
    journal_add_text(journal, 'E', event);
    text_free(event);
}

void journal_close(struct journal *journal) {
    pthread_mutex_lock(&journal->lock);
    journal->closing = true;
    pthread_mutex_unlock(&journal->lock);
    (void)!write(journal->wake[1], "", 1);
    pthread_join(journal->writer, NULL);
    close(journal->fd);
    unlinkat(journal->dir, "reserve", 0);
}
