#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "known.h"
#include "platform.h"
#include "sha256.h"

#define SAY_EVERY_NS (5 * NS_PER_S)

int open_regular(const char *path) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || (!fstat(fd, &info) && S_ISREG(info.st_mode)))
        return fd;
    close(fd);
    errno = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
    return -1;
}

void say_still_at_work(int64_t *last_ns) {
    int64_t now_ns = monotonic_ns();
    if (now_ns - *last_ns < SAY_EVERY_NS)
        return;
    *last_ns = now_ns;
    (void)!write(1, "\n", 1);
}

static bool hash_bytes(int fd, char digits[65], int64_t *size) {
    static char chunk[1 << 18];
    struct sha256 hash;
    int64_t said_ns = monotonic_ns();
    ssize_t n;
    sha256_begin(&hash);
    while ((n = read(fd, chunk, sizeof chunk)) > 0) {
        sha256_add(&hash, chunk, (size_t)n);
        say_still_at_work(&said_ns);
    }
    int error = errno;
    *size = (int64_t)hash.bytes;
    sha256_end(&hash, digits);
    errno = error;
    return n == 0;
}

static bool hash_one(const char *path, bool known, char digits[65], int64_t *size) {
    struct stat info;
    int fd = open_regular(path);
    if (fd < 0)
        return false;
    bool ok = !fstat(fd, &info);
    *size = info.st_size;
    if (ok && !(known && known_look(path, fd, digits))) {
        ok = hash_bytes(fd, digits, size);
        if (ok && known)
            known_record(path, fd, &info, digits);
    }
    int error = errno;
    close(fd);
    errno = error;
    return ok;
}

int verb_hash(char **paths, bool known) {
    for (; *paths; paths++) {
        char digits[65];
        int64_t size;
        struct text line = {0};
        text_format(&line, "{\"path\":");
        text_json_string(&line, *paths);
        if (hash_one(*paths, known, digits, &size)) {
            text_format(&line, ",\"sha256\":\"%s\",\"size\":%lld}\n", digits, (long long)size);
        } else {
            text_format(&line, ",\"error\":");
            text_json_string(&line, strerror(errno));
            text_format(&line, "}\n");
        }
        bool ok = write_all(1, line.data, line.length);
        text_free(&line);
        if (!ok)
            return 1;
    }
    return 0;
}
