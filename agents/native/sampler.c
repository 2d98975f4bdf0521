#include "sampler.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform.h"

#define UNREADABLE 0xFFFFu
#define SAME 0xFFFEu
#define OPEN_AGAIN_NS NS_PER_S
#define TRIP_TICKS 3

struct channel {
    const struct job_file *file;
    int fd, error;         /* fd -1: not open, and `error` says why */
    int64_t open_again_ns;
    pid_t opened_for;      /* the runner whose file this is */
    uint8_t *last;
    size_t last_bytes;
    bool has_last;         /* the journal has these bytes */
};

struct trip_state {
    const struct job_trip *trip;
    size_t index, channel;
    int over; /* ticks in a row */
};

struct group {
    const struct job_group *job;
    struct channel *channels;
    struct trip_state *trips;
    size_t n_trips;
    int64_t due_ns;
    atomic_llong missed, ticks;
};

static void channel_close(struct channel *channel) {
    if (channel->fd >= 0)
        close(channel->fd);
    channel->fd = -1;
}

static void channel_open(struct channel *channel, pid_t runner) {
    char path[4096];
    const char *name = channel->file->path, *mark = strstr(name, "{pid}");
    if (mark) {
        snprintf(path, sizeof path, "%.*s%d%s", (int)(mark - name), name, (int)runner, mark + 5);
        name = path;
        channel->opened_for = runner;
    }
    channel->fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    channel->error = channel->fd < 0 ? errno : 0;
}

/* Some files of /proc give a page at a time although there is more. */
static ssize_t read_from_start(int fd, uint8_t *into, size_t room) {
    ssize_t n = pread(fd, into, room, 0);
    for (ssize_t more = n; more >= 3072 && (size_t)n < room;) {
        more = pread(fd, into + n, room - (size_t)n, n);
        if (more > 0)
            n += more;
    }
    return n;
}

/* Reads one file into `into`. Returns its bytes, or -1 with `error` set. */
static ssize_t channel_read(struct channel *channel, pid_t runner, int64_t now_ns, uint8_t *into) {
    size_t room = channel->file->max_bytes;
    if (channel->file->of_runner && channel->opened_for != runner) {
        channel_close(channel);
        channel->opened_for = runner;
        channel->open_again_ns = 0;
        channel->error = ESRCH;
    }
    if (channel->file->of_runner && !runner)
        return -1;
    if (channel->file->is_question) {
        ssize_t n = kernel_answer(channel->file->path, runner, (char *)into, room);
        channel->error = n < 0 ? errno : 0;
        return n;
    }
    bool fresh = channel->fd < 0;
    if (fresh) {
        if (now_ns < channel->open_again_ns)
            return -1;
        channel->open_again_ns = now_ns + OPEN_AGAIN_NS;
        channel_open(channel, runner);
        if (channel->fd < 0)
            return -1;
    }
    ssize_t n = read_from_start(channel->fd, into, room);
    if (n >= 0)
        return n;
    channel->error = errno;
    /* A device that went and came back has a new file behind the old name: try that, once. */
    bool gone = errno == ESRCH || errno == ENODEV || errno == EBADF || errno == ENXIO || errno == ESTALE;
    if (!gone)
        return -1;
    channel_close(channel);
    channel->open_again_ns = now_ns + OPEN_AGAIN_NS;
    if (fresh)
        return -1;
    channel_open(channel, runner);
    if (channel->fd < 0)
        return -1;
    n = read_from_start(channel->fd, into, room);
    channel->error = n < 0 ? errno : 0;
    if (n < 0)
        channel_close(channel);
    return n;
}

static void check_trips(struct sampler *sampler, struct group *group, size_t index, const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < group->n_trips; i++) {
        struct trip_state *state = &group->trips[i];
        if (state->channel != index)
            continue;
        char number[32] = "";
        memcpy(number, bytes, length < sizeof number ? length : sizeof number - 1);
        char *end;
        long long value = strtoll(number, &end, 10);
        state->over = end != number && value > state->trip->limit ? state->over + 1 : 0;
        if (state->over == TRIP_TICKS && !sampler->tripped) {
            sampler->tripped_value = value;
            sampler->tripped = (int)state->index + 1;
            (void)!write(sampler->wake_fd, "", 1);
        }
    }
}

static void group_tick(struct sampler *sampler, struct group *group, int64_t now_ns) {
    pid_t runner = sampler->runner;
    uint8_t *at = sampler->tick + TICK_HEADER_BYTES;
    for (size_t i = 0; i < group->job->n_files; i++) {
        struct channel *channel = &group->channels[i];
        ssize_t n = channel_read(channel, runner, now_ns, at + 2);
        if (n < 0) {
            put16(at, UNREADABLE);
            put16(at + 2, (uint16_t)channel->error);
            at += 4;
            continue;
        }
        if (group->n_trips)
            check_trips(sampler, group, i, at + 2, (size_t)n);
        if (channel->has_last && channel->last_bytes == (size_t)n && !memcmp(channel->last, at + 2, (size_t)n)) {
            put16(at, SAME);
            at += 2;
            continue;
        }
        memcpy(channel->last, at + 2, (size_t)n);
        channel->last_bytes = (size_t)n;
        channel->has_last = true;
        put16(at, (uint16_t)n);
        at += 2 + n;
    }
    sampler->tick[0] = 'T';
    put16(sampler->tick + 1, group->job->gid);
    put64(sampler->tick + 3, (uint64_t)now_ns);
    int64_t duration_ns = monotonic_ns() - now_ns;
    put32(sampler->tick + 11, duration_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)duration_ns);
    put16(sampler->tick + 15, (uint16_t)group->job->n_files);
    if (journal_add(sampler->journal, sampler->tick, (size_t)(at - sampler->tick), NULL, 0, false)) {
        group->ticks++;
        return;
    }
    group->missed++; /* the disk is slower than we are: this tick is lost, and what the next one could refer to */
    for (size_t i = 0; i < group->job->n_files; i++)
        group->channels[i].has_last = false;
}

static void *sampler_main(void *argument) {
    struct sampler *sampler = argument;
    thread_wants_exact_timers();
    for (size_t i = 0; i < sampler->job->n_groups; i++) /* one grid for all, so that groups share their wake-ups */
        sampler->groups[i].due_ns = sampler->start_ns;
    while (!sampler->stopping && !sampler->journal->full_errno) {
        int64_t next_ns = INT64_MAX;
        for (size_t i = 0; i < sampler->job->n_groups; i++) {
            struct group *group = &sampler->groups[i];
            int64_t now_ns = monotonic_ns(), period_ns = group->job->period_ns;
            if (now_ns >= group->due_ns) {
                int64_t late = (now_ns - group->due_ns) / period_ns;
                group->missed += late;
                group_tick(sampler, group, now_ns);
                group->due_ns += (late + 1) * period_ns;
            }
            if (group->due_ns < next_ns)
                next_ns = group->due_ns;
        }
        if (!sampler->stopping)
            sleep_until_ns(next_ns);
    }
    sampler->stopped = true;
    return NULL;
}

static void group_prepare(struct sampler *sampler, struct group *group, const struct job_group *job) {
    group->job = job;
    group->channels = checked_realloc(NULL, job->n_files * sizeof *group->channels);
    for (size_t i = 0; i < job->n_files; i++) {
        struct channel *channel = &group->channels[i];
        *channel = (struct channel){.file = &job->files[i], .fd = -1, .error = ESRCH};
        channel->last = checked_realloc(NULL, job->files[i].max_bytes);
        for (size_t t = 0; t < sampler->job->n_trips; t++) {
            const struct job_trip *trip = &sampler->job->trips[t];
            if (trip->cid != job->files[i].cid)
                continue;
            group->trips = checked_realloc(group->trips, (group->n_trips + 1) * sizeof *group->trips);
            group->trips[group->n_trips++] = (struct trip_state){.trip = trip, .index = t, .channel = i};
        }
    }
}

bool sampler_start(struct sampler *sampler, const struct job *job, struct journal *journal, int wake_fd) {
    *sampler = (struct sampler){.job = job, .journal = journal, .wake_fd = wake_fd, .stopped = true};
    sampler->start_ns = monotonic_ns();
    if (!job->n_groups)
        return true;
    sampler->tick = checked_realloc(NULL, MAX_PAYLOAD_BYTES);
    sampler->groups = calloc(job->n_groups, sizeof *sampler->groups);
    for (size_t i = 0; i < job->n_groups && sampler->groups; i++)
        group_prepare(sampler, &sampler->groups[i], &job->groups[i]);
    sampler->stopped = false;
    errno = sampler->groups ? pthread_create(&sampler->thread, NULL, sampler_main, sampler) : ENOMEM;
    return errno == 0;
}

void sampler_stop(struct sampler *sampler) {
    if (!sampler->groups)
        return;
    sampler->stopping = true;
    while (!sampler->stopped) { /* a signal that comes just before the sleep is lost on it: send another */
        pthread_kill(sampler->thread, SIGUSR1);
        sleep_until_ns(monotonic_ns() + NS_PER_MS / 2);
    }
    pthread_join(sampler->thread, NULL);
}

static void counts(const struct sampler *sampler, struct text *json, const char *name, bool missed) {
    text_format(json, ",\"%s\":{", name);
    for (size_t i = 0; i < sampler->job->n_groups; i++)
        text_format(json, "%s\"%u\":%lld", i ? "," : "", sampler->job->groups[i].gid,
                    (long long)(missed ? sampler->groups[i].missed : sampler->groups[i].ticks));
    text_add(json, "}", 1);
}

void sampler_counts(const struct sampler *sampler, struct text *json) {
    counts(sampler, json, "missed", true);
    counts(sampler, json, "ticks", false);
}
