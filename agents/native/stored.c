#include "verbs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "known.h"
#include "platform.h"

static void add_stored(struct text *out, const char *path, const struct stat *info) {
    int64_t used_s = (realtime_ns() - known_used_ns(path, info)) / NS_PER_S;
    text_format(out, "{\"path\":");
    text_json_string(out, path);
    text_format(out, ",\"size\":%lld,\"used_s\":%lld}\n", (long long)info->st_size,
                (long long)(used_s > 0 ? used_s : 0)); /* a clock that was set back */
}

/* Calls itself for the folders in `folder`, once, and lists the files in those. */
static void list(struct text *out, const char *folder, bool inner) {
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat info;
        struct text path = {0};
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        text_format(&path, "%s/%s", folder, entry->d_name);
        bool there = !lstat(path.data, &info); /* no links: what they lead to is not stored here */
        if (there && !inner && S_ISDIR(info.st_mode))
            list(out, path.data, true);
        else if (there && inner && S_ISREG(info.st_mode) && !known_is_record(entry->d_name))
            add_stored(out, path.data, &info);
        text_free(&path);
    }
    closedir(dir);
}

/* The file system that `folder` is on, or will be once it is made. */
static bool room_for(const char *folder, struct statvfs *room) {
    char *path = checked_strdup(folder);
    int failed;
    while ((failed = statvfs(path, room)) && errno == ENOENT && *path && strcmp(path, "/") && strcmp(path, ".")) {
        char *slash = strrchr(path, '/');
        if (slash && slash > path)
            *slash = 0;
        else
            strcpy(path, slash ? "/" : ".");
    }
    int error = errno;
    free(path);
    errno = error;
    return !failed;
}

int verb_stored(const char *folder) {
    struct text out = {0};
    struct statvfs room;
    if (!room_for(folder, &room)) {
        complain("%s: %s", folder, strerror(errno));
        return 1;
    }
    list(&out, folder, false);
    text_format(&out, "{\"free_bytes\":%llu,\"total_bytes\":%llu}\n",
                (unsigned long long)room.f_bavail * room.f_frsize, (unsigned long long)room.f_blocks * room.f_frsize);
    bool ok = write_all(1, out.data, out.length);
    text_free(&out);
    return !ok;
}
