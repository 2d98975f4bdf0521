/* The job file, as agents/PROTOCOL.md has it. */
#ifndef MELT_JOB_H
#define MELT_JOB_H

#include "util.h"

struct job_file {
    uint16_t cid, max_bytes;
    char *path;
    bool of_runner; /* the path holds {pid} */
    bool is_question; /* to the kernel: the path names no file */
};

struct job_group {
    uint16_t gid;
    int64_t period_ns;
    struct job_file *files;
    size_t n_files;
};

struct job_stream {
    uint16_t sid;
    char **argv;
};

/* The integer right behind `before`, on the last line that holds it and `besides`. */
struct job_poll_trip {
    int64_t limit;
    char *before, *besides;
};

struct job_poll {
    uint16_t sid;
    int64_t period_ns;
    char **argv;
    struct job_poll_trip *trips;
    size_t n_trips;
};

struct job_prepare {
    char *name;
    char **argv;
};

struct job_trip {
    uint16_t cid;
    int64_t limit;
};

struct job_restore {
    bool is_exec;
    char **args; /* of a write: path, value */
};

struct job {
    char *run, *cwd, *affinity;
    char **runner;
    char **env; /* "NAME=VALUE", ends in NULL */
    size_t n_env;
    int64_t timeout_ms, linger_ms, recovery_ms; /* timeout 0: none */
    struct job_group *groups;
    struct job_stream *streams;
    struct job_poll *polls;
    struct job_prepare *prepares;
    struct job_trip *trips;
    struct job_restore *restores;
    size_t n_groups, n_streams, n_polls, n_prepares, n_trips, n_restores;
};

/* Reads DIR/job. On failure puts one sentence with the line's number into `problem`. */
bool job_read(int dir, struct job *job, struct text *problem);
/* Writes the job as it was understood: the same language, one order. */
void job_write(const struct job *job, struct text *into);

#endif
