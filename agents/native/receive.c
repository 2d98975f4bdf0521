/* A file that comes over stdin. One thread writes it as it comes; a second one follows in the page cache, hashes and
   makes durable, so that neither the hash nor the disk keeps the link waiting. */
#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "known.h"
#include "platform.h"
#include "sha256.h"

#define CHUNK_BYTES (1 << 20)
#define SYNC_EVERY_BYTES (64 << 20)
#define SILENCE_MS 60000             /* of a link: then nobody sends any more */
#define HOLDER_SILENCE_NS (2 * NS_PER_S) /* of another receiver of the same file: then it is a leftover */
#define LOOK_EVERY_NS (20 * NS_PER_MS)

struct reception {
    int fd;
    int64_t size, offset;
    pthread_mutex_t lock;
    pthread_cond_t grown;
    int64_t written;
    bool over;        /* no more will be written */
    atomic_int error; /* of the second thread */
    struct sha256 hash;
};

static void publish(struct reception *r, int64_t written, bool over) {
    pthread_mutex_lock(&r->lock);
    r->written = written;
    r->over = over;
    pthread_cond_signal(&r->grown);
    pthread_mutex_unlock(&r->lock);
}

/* Waits until more than `done` bytes are there and returns how many; `done` when no more come. */
static int64_t wait_for_more(struct reception *r, int64_t done) {
    pthread_mutex_lock(&r->lock);
    while (r->written == done && !r->over)
        pthread_cond_wait(&r->grown, &r->lock);
    int64_t written = r->written;
    pthread_mutex_unlock(&r->lock);
    return written;
}

static void *follow(void *argument) {
    static char chunk[1 << 18];
    struct reception *r = argument;
    int64_t done = 0, synced = r->offset, until, said_ns = monotonic_ns();
    while ((until = wait_for_more(r, done)) > done) {
        while (done < until) {
            size_t want = until - done < (int64_t)sizeof chunk ? (size_t)(until - done) : sizeof chunk;
            ssize_t n = pread(r->fd, chunk, want, (off_t)done);
            if (n <= 0) {
                r->error = n < 0 ? errno : EIO;
                return NULL;
            }
            sha256_add(&r->hash, chunk, (size_t)n);
            done += n;
            say_still_at_work(&said_ns);
            if (done - synced >= SYNC_EVERY_BYTES) {
                synced = done;
                if (!sync_data(r->fd))
                    r->error = errno;
            }
        }
    }
    if (fsync(r->fd))
        r->error = errno;
    return NULL;
}

static bool make_folders_of(const char *path) {
    char *folder = checked_strdup(path);
    struct stat info;
    bool ok = true;
    for (char *slash = strchr(folder + 1, '/'); slash && ok; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        ok = !mkdir(folder, 0755);
        int error = errno;
        ok = ok || (!stat(folder, &info) && S_ISDIR(info.st_mode));
        errno = error;
        *slash = '/';
    }
    free(folder);
    return ok;
}

/* Makes the part ours. Another receiver that still takes bytes keeps it; one whose link is frozen is ended: newer wins.
   -1 with errno set, EBUSY where somebody else goes on. */
static int open_part(const char *part) {
    struct stat ours, named, first = {0};
    int64_t limit_ns = monotonic_ns() + 2 * HOLDER_SILENCE_NS, silent_ns = monotonic_ns() + HOLDER_SILENCE_NS;
    for (;;) {
        int fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        if (fd < 0 || fstat(fd, &ours))
            return -1;
        if (!fcntl(fd, F_SETLK, &lock)) {
            /* Who had it may have given it its name a moment ago. */
            if (!stat(part, &named) && named.st_ino == ours.st_ino && named.st_dev == ours.st_dev)
                return fd;
        } else if (errno != EACCES && errno != EAGAIN) {
            return fd; /* a file system without locks */
        } else {
            if (!first.st_ino)
                first = ours;
            bool goes_on = modified_ns(&ours) != modified_ns(&first) || ours.st_size != first.st_size;
            if (goes_on || monotonic_ns() > limit_ns) {
                close(fd);
                errno = EBUSY;
                return -1;
            }
            if (monotonic_ns() > silent_ns && !fcntl(fd, F_GETLK, &lock) && lock.l_type != F_UNLCK && lock.l_pid > 1)
                kill(lock.l_pid, SIGKILL);
        }
        close(fd);
        sleep_until_ns(monotonic_ns() + LOOK_EVERY_NS);
    }
}

/* Writes what comes, up to the size. Returns how much of the file there is; errno is set where that is not all of it,
   0 where the link ended. */
static int64_t take_bytes(struct reception *r) {
    char *chunk = checked_realloc(NULL, CHUNK_BYTES);
    int64_t at = r->offset;
    int error = 0;
    while (at < r->size && !error && !(error = r->error)) {
        struct pollfd link = {.fd = 0, .events = POLLIN};
        size_t want = r->size - at < CHUNK_BYTES ? (size_t)(r->size - at) : CHUNK_BYTES;
        int ready = poll(&link, 1, SILENCE_MS);
        ssize_t n = ready > 0 ? read(0, chunk, want) : ready ? -1 : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            error = n < 0 ? errno : 0;
            break;
        }
        for (ssize_t done = 0, m; done < n && !error; done += m > 0 ? m : 0)
            if ((m = pwrite(r->fd, chunk + done, (size_t)(n - done), (off_t)(at + done))) < 0 && errno != EINTR)
                error = errno;
        if (!error)
            publish(r, at += n, false);
    }
    free(chunk);
    errno = error;
    return at;
}

/* Gives the part its name. */
static bool put_in_place(const char *part, const char *path) {
    if (rename(part, path))
        return false;
    char *folder = checked_strdup(path), *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0;
    int dir = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = dir >= 0 && !fsync(dir);
    if (dir >= 0)
        close(dir);
    free(folder);
    return ok;
}

static int refuse(const char *path, int error) {
    complain("%s: %s", path, error == EBUSY ? "is being received from elsewhere" : strerror(error));
    return 1;
}

static int receive(struct reception *r, const char *part, const char *path, const char *sha256) {
    pthread_t follower;
    struct stat info;
    char digits[65];
    if (fstat(r->fd, &info))
        return refuse(path, errno);
    if (info.st_size < r->offset) {
        complain("%s: only %lld bytes are there to go on from", part, (long long)info.st_size);
        return 1;
    }
    if (ftruncate(r->fd, (off_t)r->offset))
        return refuse(path, errno);
    if (!keep_room(r->fd, r->size)) {
        int full = errno;
        (void)!ftruncate(r->fd, (off_t)r->offset); /* some of it may have been had */
        return refuse(path, full);
    }
    r->written = r->offset;
    sha256_begin(&r->hash);
    int error = pthread_create(&follower, NULL, follow, r);
    if (error)
        return refuse(path, error);
    int64_t there = take_bytes(r);
    error = errno;
    publish(r, there, true);
    pthread_join(follower, NULL);
    if (error || r->error || there < r->size) {
        (void)!ftruncate(r->fd, (off_t)there); /* gives back the room that was kept */
        if (error || r->error)
            return refuse(path, error ? error : r->error);
        complain("%s: %lld of %lld bytes came", path, (long long)there, (long long)r->size);
        return 1;
    }
    sha256_end(&r->hash, digits);
    if (strcmp(digits, sha256)) {
        unlink(part);
        complain("%s: what came has the hash %s, not %s: removed", path, digits, sha256);
        return 1;
    }
    if (!put_in_place(part, path) || fstat(r->fd, &info))
        return refuse(path, errno);
    known_record(path, r->fd, &info, digits);
    struct text answer = {0};
    text_format(&answer, "{\"path\":");
    text_json_string(&answer, path);
    text_format(&answer, ",\"size\":%lld,\"sha256\":\"%s\"}\n", (long long)r->size, digits);
    bool ok = write_all(1, answer.data, answer.length);
    text_free(&answer);
    return !ok;
}

int verb_receive(const char *path, int64_t size, int64_t offset, const char *sha256) {
    static struct reception r = {.lock = PTHREAD_MUTEX_INITIALIZER, .grown = PTHREAD_COND_INITIALIZER};
    struct text part = {0};
    text_format(&part, "%s.part", path);
    r.size = size;
    r.offset = offset;
    r.fd = make_folders_of(path) ? open_part(part.data) : -1;
    int code = r.fd < 0 ? refuse(path, errno) : receive(&r, part.data, path, sha256);
    text_free(&part);
    return code;
}
