#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guardian.h"
#include "jobdir.h"
#include "platform.h"

#define STOP_LIMIT_NS (60 * NS_PER_S) /* restore commands may take their time */
#define LOOK_EVERY_NS (2 * NS_PER_MS)
#define FOLLOW_EVERY_MS 50

enum state { ABSENT, RUNNING, ENDED, DEAD };

static int open_dir(const char *path) {
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 && errno != ENOENT)
        complain("%s: %s", path, strerror(errno));
    return dir;
}

static bool anyone_at_work(const struct pids *pids) {
    return pids_current(pids) && (process_alive(&pids->worker) || process_alive(&pids->guardian));
}

static enum state state_of(int dir, struct pids *pids) {
    struct stat info;
    *pids = (struct pids){0};
    if (dir < 0 || fstatat(dir, "journal", &info, 0))
        return ABSENT;
    bool known = pids_read(dir, pids), alive = known && anyone_at_work(pids);
    /* In this order: who is at work now may write `end` and leave between two looks. */
    return end_exists(dir) ? ENDED : alive ? RUNNING : DEAD;
}

static int print_status(int dir) {
    static const char *const NAMES[] = {"absent", "running", "ended", "dead"};
    struct pids pids;
    struct stat journal = {0};
    struct text json = {0}, end = {0};
    enum state state = state_of(dir, &pids);
    text_format(&json, "{\"state\":\"%s\",\"pid\":", NAMES[state]);
    text_format(&json, pids.worker.pid ? "%d" : "null", (int)pids.worker.pid);
    if (state != ABSENT)
        fstatat(dir, "journal", &journal, 0);
    text_format(&json, ",\"journal_bytes\":%lld,\"t_ns\":%lld,\"end\":", (long long)journal.st_size,
                (long long)monotonic_ns());
    bool has_end = state == ENDED && read_whole(dir, "end", 1 << 20, &end) && end.length;
    if (has_end)
        text_add(&json, end.data, strcspn(end.data, "\n"));
    else
        text_format(&json, "null");
    text_format(&json, "}");
    puts(json.data);
    text_free(&json);
    text_free(&end);
    return 0;
}

static bool read_job(int dir, const char *job_dir, struct job *job) {
    struct text problem = {0};
    if (dir < 0)
        text_format(&problem, "job: no such folder");
    if (dir >= 0 && job_read(dir, job, &problem))
        return true;
    complain("%s/%s", job_dir, problem.data);
    text_free(&problem);
    return false;
}

int verb_check(const char *job_dir) {
    struct job job;
    struct text text = {0};
    if (!read_job(open_dir(job_dir), job_dir, &job))
        return 1;
    job_write(&job, &text);
    return write_all(1, text.data, text.length) ? 0 : 1;
}

int verb_start(const char *job_dir) {
    struct job job;
    struct text answer = {0};
    int dir = open_dir(job_dir);
    if (!read_job(dir, job_dir, &job))
        return 1;
    if (!guardian_start(&job, dir, &answer)) {
        complain("%s: %s", job_dir, answer.data);
        return 1;
    }
    printf("{\"started\":true,\"pid\":%s,\"boot_id\":", answer.data);
    answer.length = 0;
    text_json_string(&answer, *boot_id() ? boot_id() : NULL);
    printf("%s}\n", answer.data);
    return 0;
}

int verb_status(const char *job_dir) { return print_status(open_dir(job_dir)); }

int verb_stop(const char *job_dir) {
    struct pids pids;
    int dir = open_dir(job_dir);
    int64_t limit_ns = monotonic_ns() + STOP_LIMIT_NS;
    if (state_of(dir, &pids) == RUNNING && process_alive(&pids.worker))
        kill(pids.worker.pid, SIGTERM);
    while (state_of(dir, &pids) == RUNNING && monotonic_ns() < limit_ns)
        sleep_until_ns(monotonic_ns() + LOOK_EVERY_NS);
    return print_status(dir);
}

int verb_recover(const char *job_dir) {
    struct pids pids;
    struct job job;
    int dir = open_dir(job_dir);
    if (state_of(dir, &pids) == DEAD) {
        struct text restored = {0};
        pids_kill_children(&pids);
        bool readable = read_job(dir, job_dir, &job);
        if (readable)
            restores_run(&job, &restored);
        else
            text_format(&restored, "null");
        struct end end = {"recovered", monotonic_ns(), -1, -1, &restored, 0, pids_tell_boots(&pids), !pids_current(&pids)};
        unlinkat(dir, "reserve", 0);
        if (!end_write(dir, &end)) {
            complain("%s/end: %s", job_dir, strerror(errno));
            return 1;
        }
        text_free(&restored);
    }
    return print_status(dir);
}

/* Writes what the journal has from `offset` on. Returns the new offset, -1 when nobody listens or it cannot be read. */
static int64_t copy_on(int fd, int64_t offset) {
    static char chunk[262144];
    ssize_t n;
    while ((n = pread(fd, chunk, sizeof chunk, (off_t)offset)) > 0) {
        if (!write_all(1, chunk, (size_t)n))
            return -1;
        offset += n;
    }
    return n < 0 ? -1 : offset;
}

int verb_tail(const char *job_dir, int64_t offset, bool follow) {
    struct pids pids;
    int dir = open_dir(job_dir), fd = dir < 0 ? -1 : openat(dir, "journal", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        complain("%s/journal: %s", job_dir, strerror(errno));
        return 1;
    }
    bool goes_on = true;
    while (goes_on) {
        goes_on = follow && state_of(dir, &pids) == RUNNING; /* before the copy: what is written last is copied too */
        offset = copy_on(fd, offset);
        if (offset < 0)
            return 1;
        struct pollfd listener = {.fd = 1};
        if (goes_on && poll(&listener, 1, FOLLOW_EVERY_MS) > 0 && listener.revents & (POLLERR | POLLHUP))
            return 1;
    }
    return 0;
}
