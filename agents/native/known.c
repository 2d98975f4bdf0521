#include "known.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform.h"

#define MAX_RECORD_BYTES 256
#define CLOCK_STEP_NS (20 * NS_PER_MS) /* of a file's times: the longest timer tick of a kernel, twice */

static const char SUFFIX[] = ".sha256";

/* FOLDER/NAME -> FOLDER/.NAME.sha256 */
static char *record_path(const char *path) {
    struct text text = {0};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    text_add(&text, path, (size_t)(name - path));
    text_format(&text, ".%s%s", name, SUFFIX);
    return text.data;
}

bool known_is_record(const char *name) {
    size_t length = strlen(name), suffix = sizeof SUFFIX - 1;
    return *name == '.' && length > suffix + 1 && !strcmp(name + length - suffix, SUFFIX);
}

/* All that changes when a file does. The inode's own change time is in it, which nobody can set back: a file that was
   written to and given its old time again is another one, and so is a copy. */
static void describe(const struct stat *info, struct text *into) {
    text_format(into, "melt-known 1 %lld %lld %lld %llu ", (long long)info->st_size, (long long)modified_ns(info),
                (long long)changed_ns(info), (unsigned long long)info->st_ino);
}

static bool looks_the_same(const struct stat *a, const struct stat *b) {
    return a->st_size == b->st_size && a->st_ino == b->st_ino && a->st_dev == b->st_dev &&
           modified_ns(a) == modified_ns(b) && changed_ns(a) == changed_ns(b);
}

bool known_look(const char *path, int fd, char digits[65]) {
    struct stat info, record_info;
    struct text expected = {0};
    char record[MAX_RECORD_BYTES], *name = record_path(path);
    bool known = false;
    int record_fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    /* Only what we wrote ourselves counts, or who may write everything. */
    if (record_fd >= 0 && !fstat(fd, &info) && !fstat(record_fd, &record_info) && S_ISREG(record_info.st_mode) &&
        (record_info.st_uid == geteuid() || !record_info.st_uid)) {
        ssize_t n = read(record_fd, record, sizeof record);
        describe(&info, &expected);
        known = n == (ssize_t)expected.length + 65 && !memcmp(record, expected.data, expected.length) &&
                record[n - 1] == '\n';
        if (known) {
            memcpy(digits, record + expected.length, 64);
            digits[64] = 0;
            known = strspn(digits, "0123456789abcdef") == 64;
        }
    }
    if (known)
        utimensat(AT_FDCWD, name, NULL, 0);
    if (record_fd >= 0)
        close(record_fd);
    text_free(&expected);
    free(name);
    return known;
}

void known_record(const char *path, int fd, const struct stat *before, const char digits[65]) {
    struct stat info;
    struct text record = {0};
    /* A record that outlives a power cut which the bytes did not would be a lie. */
    if (fsync(fd))
        return;
    /* Somebody who writes within the same step of the clock as the last writer leaves the times as they are. */
    for (int64_t now_ns; (now_ns = realtime_ns()) >= changed_ns(before) && now_ns < changed_ns(before) + CLOCK_STEP_NS;)
        sleep_until_ns(monotonic_ns() + changed_ns(before) + CLOCK_STEP_NS - now_ns);
    if (fstat(fd, &info) || !looks_the_same(before, &info))
        return;
    describe(&info, &record);
    text_format(&record, "%s\n", digits);
    char *name = record_path(path);
    int record_fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (record_fd >= 0) {
        (void)!write(record_fd, record.data, record.length); /* one cut short is not believed */
        close(record_fd);
    }
    text_free(&record);
    free(name);
}

int64_t known_used_ns(const char *path, const struct stat *info) {
    struct stat record;
    char *name = record_path(path);
    int64_t used_ns = lstat(name, &record) ? modified_ns(info) : modified_ns(&record);
    free(name);
    return used_ns;
}
