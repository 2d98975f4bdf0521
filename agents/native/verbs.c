#include "verbs.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform.h"
#include "version.h"

#define MAX_READ_BYTES 65536u

int verb_version(void) {
    printf("{\"agent\":\"%s\",\"protocol\":%d,\"os\":\"%s\",\"arch\":\"%s\"}\n", MELT_AGENT_VERSION, PROTOCOL, PLATFORM_OS,
           PLATFORM_ARCH);
    return 0;
}

int verb_clock(void) {
    char chunk[4096], answer[128];
    ssize_t n;
    while ((n = read(0, chunk, sizeof chunk)) > 0)
        for (ssize_t i = 0; i < n; i++) {
            if (chunk[i] != '\n')
                continue;
            int length = snprintf(answer, sizeof answer, "{\"t_ns\":%lld,\"realtime_ns\":%lld,\"boottime_ns\":%lld}\n",
                                  (long long)monotonic_ns(), (long long)realtime_ns(), (long long)boottime_ns());
            if (!write_all(1, answer, (size_t)length))
                return 1;
        }
    return n < 0;
}

static bool is_question(const char *pattern) { return !strncmp(pattern, KERNEL_QUESTION, strlen(KERNEL_QUESTION)); }

/* Returns the bytes read, -1 when it cannot be read. */
static ssize_t content_of(const char *path, char *content, size_t room) {
    if (is_question(path))
        return kernel_answer(path, 0, content, room);
    ssize_t n = -1, length = 0;
    int fd = open_regular(path);
    if (fd >= 0) {
        while (length < (ssize_t)room && (n = read(fd, content + length, room - (size_t)length)) > 0)
            length += n;
        close(fd);
    }
    return n < 0 ? -1 : length;
}

static void add_file(struct text *out, const char *path) {
    static char content[MAX_READ_BYTES];
    ssize_t length = content_of(path, content, sizeof content);
    text_field(out, path, strlen(path));
    text_format(out, " %zd\n", length);
    if (length >= 0) {
        text_add(out, content, (size_t)length);
        text_add(out, "\n", 1);
    }
}

int verb_read(char **patterns) {
    struct text out = {0};
    for (; *patterns; patterns++) {
        glob_t found;
        if (is_question(*patterns)) {
            add_file(&out, *patterns);
            continue;
        }
        if (glob(*patterns, 0, NULL, &found))
            continue;
        for (size_t i = 0; i < found.gl_pathc; i++) {
            struct stat info;
            if (!stat(found.gl_pathv[i], &info) && S_ISDIR(info.st_mode))
                continue;
            add_file(&out, found.gl_pathv[i]);
            if (out.length >= MAX_READ_BYTES && !write_all(1, out.data, out.length))
                return 1;
            out.length = out.length >= MAX_READ_BYTES ? 0 : out.length;
        }
        globfree(&found);
    }
    bool ok = write_all(1, out.data, out.length);
    text_free(&out);
    return !ok;
}
