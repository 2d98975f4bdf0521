#include "jobdir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "platform.h"

#define RESTORE_LIMIT_MS 10000
#define KILL_LIMIT_MS 2000
#define END_ROOM_BYTES 4096
#define UNKNOWN_BOOT "-" /* processes are then told apart by their start alone */

struct process process_of(pid_t pid) { return (struct process){pid, process_start(pid)}; }

bool process_alive(const struct process *process) {
    return process->pid > 0 && process->start && process_start(process->pid) == process->start;
}

static bool replace_file(int dir, const char *name, const char *fresh, const struct text *content) {
    int fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return false;
    bool ok = write_all(fd, content->data, content->length) && !ftruncate(fd, (off_t)content->length) && !fsync(fd);
    close(fd);
    return ok && !renameat(dir, fresh, dir, name) && !fsync(dir);
}

static void add_process(struct text *text, const char *role, struct process process) {
    if (process.pid)
        text_format(text, "%s %d %llu\n", role, (int)process.pid, (unsigned long long)process.start);
}

bool pids_write(int dir, const struct pids *pids) {
    struct text text = {0};
    text_format(&text, "boot_id %s\n", pids->boot_id);
    add_process(&text, "guardian", pids->guardian);
    add_process(&text, "worker", pids->worker);
    add_process(&text, "runner", pids->runner);
    for (size_t i = 0; i < pids->n_others; i++)
        add_process(&text, "program", pids->others[i]);
    int fd = openat(dir, "pid.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && write_all(fd, text.data, text.length);
    if (fd >= 0)
        close(fd);
    /* No sync: after a power cut nobody is alive, and a missing file says so as well. */
    ok = ok && !renameat(dir, "pid.new", dir, "pid");
    text_free(&text);
    return ok;
}

bool pids_read(int dir, struct pids *pids) {
    struct text text = {0};
    *pids = (struct pids){0};
    bool ok = read_whole(dir, "pid", 1 << 20, &text);
    for (char *line = ok ? strtok(text.data, "\n") : NULL; line; line = strtok(NULL, "\n")) {
        char role[16];
        int pid;
        unsigned long long start;
        if (sscanf(line, "boot_id %63s", pids->boot_id) == 1)
            continue;
        if (sscanf(line, "%15s %d %llu", role, &pid, &start) != 3 || pid <= 1)
            continue;
        struct process process = {pid, start};
        if (!strcmp(role, "guardian"))
            pids->guardian = process;
        else if (!strcmp(role, "worker"))
            pids->worker = process;
        else if (!strcmp(role, "runner"))
            pids->runner = process;
        else {
            pids->others = checked_realloc(pids->others, (pids->n_others + 1) * sizeof *pids->others);
            pids->others[pids->n_others++] = process;
        }
    }
    text_free(&text);
    return ok;
}

void pids_boot(struct pids *pids) {
    snprintf(pids->boot_id, sizeof pids->boot_id, "%s", *boot_id() ? boot_id() : UNKNOWN_BOOT);
}

bool pids_current(const struct pids *pids) {
    struct pids now;
    pids_boot(&now);
    return !strcmp(pids->boot_id, now.boot_id);
}

bool pids_tell_boots(const struct pids *pids) {
    return *pids->boot_id && strcmp(pids->boot_id, UNKNOWN_BOOT) && *boot_id();
}

static void kill_left_behind(const struct process *leader) {
    /* A number whose process is gone is not given away while its group lives; a number of somebody else is. */
    if (leader->pid && (process_alive(leader) || !process_start(leader->pid)))
        kill_group(leader->pid, KILL_LIMIT_MS);
}

void pids_kill_children(const struct pids *pids) {
    if (!pids_current(pids))
        return;
    kill_left_behind(&pids->runner);
    for (size_t i = 0; i < pids->n_others; i++)
        kill_left_behind(&pids->others[i]);
}

static bool write_value(const char *path, const char *value) {
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool ok = write_all(fd, value, strlen(value));
    return !close(fd) && ok; /* some filesystems say only now that it failed */
}

void restores_run(const struct job *job, struct text *json) {
    text_add(json, "[", 1);
    for (size_t i = 0; i < job->n_restores; i++) {
        const struct job_restore *restore = &job->restores[i];
        struct text what = {0};
        for (char **arg = restore->args; *arg; arg++)
            text_format(&what, arg == restore->args ? "%s" : " %s", *arg);
        bool ok = restore->is_exec ? child_run(restore->args, RESTORE_LIMIT_MS)
                                   : write_value(restore->args[0], restore->args[1]);
        text_format(json, "%s{\"what\":", i ? "," : "");
        text_json(json, what.data, what.length);
        text_format(json, ",\"ok\":%s}", ok ? "true" : "false");
        text_free(&what);
    }
    text_add(json, "]", 1);
}

static void number_or_null(struct text *json, const char *name, int value, int absent) {
    if (value == absent)
        text_format(json, ",\"%s\":null", name);
    else
        text_format(json, ",\"%s\":%d", name, value);
}

void end_fields(const struct end *end, struct text *json) {
    text_format(json, "\"reason\":\"%s\",\"t_ns\":%lld", end->reason, (long long)end->t_ns);
    number_or_null(json, "exit_code", end->exit_code, -1);
    number_or_null(json, "signal", end->signal, -1);
    number_or_null(json, "journal_errno", end->journal_errno, 0);
    text_format(json, ",\"rebooted\":%s", !end->rebooted_known ? "null" : end->rebooted ? "true" : "false");
    text_format(json, ",\"restored\":%s}", end->restored->data);
}

void end_reserve(int dir) {
    char spaces[END_ROOM_BYTES];
    int fd = openat(dir, "end.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    memset(spaces, ' ', sizeof spaces);
    if (fd >= 0) {
        write_all(fd, spaces, sizeof spaces);
        close(fd);
    }
}

bool end_write(int dir, const struct end *end) {
    struct text json = {0};
    text_add(&json, "{", 1);
    end_fields(end, &json);
    text_add(&json, "\n", 1);
    bool ok = replace_file(dir, "end", "end.new", &json);
    text_free(&json);
    return ok;
}

bool end_exists(int dir) {
    struct stat info;
    return !fstatat(dir, "end", &info, 0);
}
