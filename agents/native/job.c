#include "job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "platform.h"

#define MAX_JOB_BYTES (4u << 20)
#define MAX_CONTENT_BYTES 0xFFFD /* longer lengths have a meaning of their own in the journal */
#define MIN_PERIOD_NS 100000
#define MIN_POLL_PERIOD_NS (100 * NS_PER_MS)
#define MAX_PERIOD_NS (86400 * NS_PER_S)

#define GROW(array, count) ((array) = checked_realloc((array), ((count) + 1) * sizeof *(array)), &(array)[(count)++])

typedef const char *(*directive_fn)(struct job *job, char **args, size_t n);

static char **copy_args(char **args, size_t n) {
    char **copy = checked_realloc(NULL, (n + 1) * sizeof *copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = checked_strdup(args[i]);
    copy[n] = NULL;
    return copy;
}

static const char *set_once(char **where, const char *value) {
    if (*where)
        return "said twice";
    *where = checked_strdup(value);
    return NULL;
}

static const char *do_run(struct job *job, char **args, size_t n) {
    (void)n;
    return set_once(&job->run, args[0]);
}

static const char *do_cwd(struct job *job, char **args, size_t n) {
    (void)n;
    return set_once(&job->cwd, args[0]);
}

static const char *do_affinity(struct job *job, char **args, size_t n) {
    (void)n;
    return affinity_valid(args[0]) ? set_once(&job->affinity, args[0]) : "not a list of CPUs such as 0-3,6";
}

static const char *do_runner(struct job *job, char **args, size_t n) {
    if (job->runner)
        return "said twice";
    job->runner = copy_args(args, n);
    return NULL;
}

static const char *do_env(struct job *job, char **args, size_t n) {
    (void)n;
    if (!*args[0] || strchr(args[0], '='))
        return "not a name of a variable";
    struct text pair = {0};
    text_format(&pair, "%s=%s", args[0], args[1]);
    job->env = checked_realloc(job->env, (job->n_env + 2) * sizeof *job->env);
    job->env[job->n_env++] = pair.data;
    job->env[job->n_env] = NULL;
    return NULL;
}

static const char *milliseconds(int64_t *where, const char *value) {
    if (*where)
        return "said twice";
    return parse_int(value, 1, 30 * 86400000LL, where) ? NULL : "not a number of milliseconds from 1 to 30 days";
}

static const char *do_timeout(struct job *job, char **args, size_t n) {
    (void)n;
    return milliseconds(&job->timeout_ms, args[0]);
}

static const char *do_linger(struct job *job, char **args, size_t n) {
    (void)n;
    return milliseconds(&job->linger_ms, args[0]);
}

static const char *do_recovery(struct job *job, char **args, size_t n) {
    (void)n;
    return milliseconds(&job->recovery_ms, args[0]);
}

static struct job_group *find_group(struct job *job, int64_t gid) {
    for (size_t i = 0; i < job->n_groups; i++)
        if (job->groups[i].gid == gid)
            return &job->groups[i];
    return NULL;
}

static bool has_file(const struct job *job, int64_t cid) {
    for (size_t g = 0; g < job->n_groups; g++)
        for (size_t f = 0; f < job->groups[g].n_files; f++)
            if (job->groups[g].files[f].cid == cid)
                return true;
    return false;
}

static const char *do_group(struct job *job, char **args, size_t n) {
    int64_t gid, period_ns;
    (void)n;
    if (!parse_int(args[0], 0, UINT16_MAX, &gid))
        return "the group's number must be 0 to 65535";
    if (!parse_int(args[1], MIN_PERIOD_NS, MAX_PERIOD_NS, &period_ns))
        return "the period must be 100000 ns to one day";
    if (find_group(job, gid))
        return "this group's number is taken";
    *GROW(job->groups, job->n_groups) = (struct job_group){.gid = (uint16_t)gid, .period_ns = period_ns};
    return NULL;
}

static const char *do_file(struct job *job, char **args, size_t n) {
    int64_t gid, cid, max_bytes;
    (void)n;
    struct job_group *group = parse_int(args[0], 0, UINT16_MAX, &gid) ? find_group(job, gid) : NULL;
    if (!group)
        return "no group of this number stands above";
    if (!parse_int(args[1], 0, UINT16_MAX, &cid))
        return "the file's number must be 0 to 65535";
    if (!parse_int(args[2], 1, MAX_CONTENT_BYTES, &max_bytes))
        return "the longest content must be 1 to 65533 bytes";
    if (has_file(job, cid))
        return "this file's number is taken";
    size_t tick_bytes = TICK_HEADER_BYTES + 2 + (size_t)max_bytes;
    for (size_t i = 0; i < group->n_files; i++)
        tick_bytes += 2u + group->files[i].max_bytes;
    if (tick_bytes > MAX_PAYLOAD_BYTES)
        return "a tick of this group could be longer than 4 MiB";
    *GROW(group->files, group->n_files) = (struct job_file){
        .cid = (uint16_t)cid,
        .max_bytes = (uint16_t)max_bytes,
        .path = checked_strdup(args[3]),
        .of_runner = strstr(args[3], "{pid}") != NULL,
        .is_question = !strncmp(args[3], KERNEL_QUESTION, strlen(KERNEL_QUESTION)),
    };
    return NULL;
}

/* The number of a stream or a poll. */
static const char *take_sid(const struct job *job, const char *field, int64_t *sid) {
    if (!parse_int(field, 2, UINT16_MAX, sid))
        return "the stream's number must be 2 to 65535";
    for (size_t i = 0; i < job->n_streams; i++)
        if (job->streams[i].sid == *sid)
            return "this stream's number is taken";
    for (size_t i = 0; i < job->n_polls; i++)
        if (job->polls[i].sid == *sid)
            return "this stream's number is taken";
    return NULL;
}

static const char *do_poll(struct job *job, char **args, size_t n) {
    int64_t sid, period_ns;
    const char *problem = take_sid(job, args[0], &sid);
    if (problem)
        return problem;
    if (!parse_int(args[1], MIN_POLL_PERIOD_NS, MAX_PERIOD_NS, &period_ns))
        return "the period must be 100000000 ns to one day";
    *GROW(job->polls, job->n_polls) =
        (struct job_poll){.sid = (uint16_t)sid, .period_ns = period_ns, .argv = copy_args(args + 2, n - 2)};
    return NULL;
}

static const char *do_prepare(struct job *job, char **args, size_t n) {
    *GROW(job->prepares, job->n_prepares) = (struct job_prepare){checked_strdup(args[0]), copy_args(args + 1, n - 1)};
    return NULL;
}

static const char *do_stream(struct job *job, char **args, size_t n) {
    int64_t sid;
    const char *problem = take_sid(job, args[0], &sid);
    if (problem)
        return problem;
    *GROW(job->streams, job->n_streams) = (struct job_stream){(uint16_t)sid, copy_args(args + 1, n - 1)};
    return NULL;
}

static const char *do_trip(struct job *job, char **args, size_t n) {
    int64_t cid, limit;
    (void)n;
    if (!parse_int(args[0], 0, UINT16_MAX, &cid) || !has_file(job, cid))
        return "no file of this number stands above";
    if (!parse_int(args[1], -INT64_MAX, INT64_MAX, &limit))
        return "the limit must be a whole number";
    *GROW(job->trips, job->n_trips) = (struct job_trip){(uint16_t)cid, limit};
    return NULL;
}

static const char *do_poll_trip(struct job *job, char **args, size_t n) {
    int64_t sid, limit;
    (void)n;
    struct job_poll *poll = NULL;
    if (parse_int(args[0], 2, UINT16_MAX, &sid))
        for (size_t i = 0; i < job->n_polls; i++)
            if (job->polls[i].sid == sid)
                poll = &job->polls[i];
    if (!poll)
        return "no poll of this number stands above";
    if (!parse_int(args[1], -INT64_MAX, INT64_MAX, &limit))
        return "the limit must be a whole number";
    if (!*args[2])
        return "the text before the number is empty";
    *GROW(poll->trips, poll->n_trips) =
        (struct job_poll_trip){limit, checked_strdup(args[2]), checked_strdup(args[3])};
    return NULL;
}

static const char *do_restore_write(struct job *job, char **args, size_t n) {
    *GROW(job->restores, job->n_restores) = (struct job_restore){false, copy_args(args, n)};
    return NULL;
}

static const char *do_restore_exec(struct job *job, char **args, size_t n) {
    *GROW(job->restores, job->n_restores) = (struct job_restore){true, copy_args(args, n)};
    return NULL;
}

static const struct directive {
    const char *name;
    size_t least, most; /* fields after the name; most 0: any number */
    directive_fn take;
} DIRECTIVES[] = {
    {"run", 1, 1, do_run},
    {"runner", 1, 0, do_runner},
    {"cwd", 1, 1, do_cwd},
    {"env", 2, 2, do_env},
    {"affinity", 1, 1, do_affinity},
    {"timeout_ms", 1, 1, do_timeout},
    {"linger_ms", 1, 1, do_linger},
    {"recovery_ms", 1, 1, do_recovery},
    {"group", 2, 2, do_group},
    {"file", 4, 4, do_file},
    {"stream", 2, 0, do_stream},
    {"poll", 3, 0, do_poll},
    {"prepare", 2, 0, do_prepare},
    {"trip", 2, 2, do_trip},
    {"poll_trip", 4, 4, do_poll_trip},
    {"restore_write", 2, 2, do_restore_write},
    {"restore_exec", 1, 0, do_restore_exec},
};

static const char *take_line(struct job *job, char *line) {
    char **fields = NULL;
    size_t n = 0;
    const char *problem = NULL;
    for (char *at = line; at && !problem;) {
        char *space = strchr(at, ' ');
        if (space)
            *space++ = 0;
        if (!*at)
            problem = "fields are separated by one space, and an empty one is %-";
        else if (!field_decode(at))
            problem = "a field holds a byte that must be written %XX, or a wrong %XX";
        *GROW(fields, n) = at;
        at = space;
    }
    const struct directive *found = NULL;
    for (size_t i = 0; i < sizeof DIRECTIVES / sizeof *DIRECTIVES && !problem; i++)
        if (!strcmp(DIRECTIVES[i].name, fields[0]))
            found = &DIRECTIVES[i];
    if (!problem && !found)
        problem = "no such directive";
    if (!problem && (n - 1 < found->least || (found->most && n - 1 > found->most)))
        problem = "wrong number of fields";
    if (!problem)
        problem = found->take(job, fields + 1, n - 1);
    free(fields);
    return problem;
}

bool job_read(int dir, struct job *job, struct text *problem) {
    struct text file = {0};
    *job = (struct job){0};
    if (!read_whole(dir, "job", MAX_JOB_BYTES, &file)) {
        text_format(problem, "job: %s", strerror(errno));
        text_free(&file);
        return false;
    }
    const char *wrong = NULL;
    size_t number = 1, left = file.length;
    char *line = file.data;
    while (left && !wrong) {
        char *newline = memchr(line, '\n', left);
        size_t length = newline ? (size_t)(newline - line) : left;
        if (!newline)
            wrong = "the last line has no end: the file is cut short";
        else if (memchr(line, 0, length))
            wrong = "a byte of zero";
        if (wrong)
            break;
        *newline = 0;
        if (number == 1 && strcmp(line, "melt-job 1"))
            wrong = "the first line must be: melt-job 1";
        else if (number > 1 && length && *line != '#')
            wrong = take_line(job, line);
        left -= length + 1;
        line = newline + 1;
        if (!wrong)
            number++;
    }
    if (!wrong && number == 1)
        wrong = "the first line must be: melt-job 1";
    if (!wrong && !job->run)
        wrong = "the job ends without a line: run ID";
    if (wrong)
        text_format(problem, "job:%zu: %s", number, wrong);
    text_free(&file);
    return !wrong;
}

static void write_line(struct text *into, const char *name, char *const *args) {
    text_add(into, name, strlen(name));
    for (; *args; args++) {
        text_add(into, " ", 1);
        text_field(into, *args, strlen(*args));
    }
    text_add(into, "\n", 1);
}

void job_write(const struct job *job, struct text *into) {
    text_format(into, "melt-job 1\n");
    write_line(into, "run", (char *[]){job->run, NULL});
    if (job->runner)
        write_line(into, "runner", job->runner);
    if (job->cwd)
        write_line(into, "cwd", (char *[]){job->cwd, NULL});
    for (size_t i = 0; i < job->n_env; i++) {
        char *value = strchr(job->env[i], '=');
        *value = 0;
        write_line(into, "env", (char *[]){job->env[i], value + 1, NULL});
        *value = '=';
    }
    if (job->affinity)
        write_line(into, "affinity", (char *[]){job->affinity, NULL});
    if (job->timeout_ms)
        text_format(into, "timeout_ms %lld\n", (long long)job->timeout_ms);
    if (job->linger_ms)
        text_format(into, "linger_ms %lld\n", (long long)job->linger_ms);
    if (job->recovery_ms)
        text_format(into, "recovery_ms %lld\n", (long long)job->recovery_ms);
    for (size_t g = 0; g < job->n_groups; g++) {
        const struct job_group *group = &job->groups[g];
        text_format(into, "group %u %lld\n", group->gid, (long long)group->period_ns);
        for (size_t f = 0; f < group->n_files; f++) {
            text_format(into, "file %u %u %u", group->gid, group->files[f].cid, group->files[f].max_bytes);
            write_line(into, "", (char *[]){group->files[f].path, NULL});
        }
    }
    for (size_t i = 0; i < job->n_streams; i++) {
        text_format(into, "stream %u", job->streams[i].sid);
        write_line(into, "", job->streams[i].argv);
    }
    for (size_t i = 0; i < job->n_polls; i++) {
        text_format(into, "poll %u %lld", job->polls[i].sid, (long long)job->polls[i].period_ns);
        write_line(into, "", job->polls[i].argv);
        for (size_t t = 0; t < job->polls[i].n_trips; t++) {
            const struct job_poll_trip *trip = &job->polls[i].trips[t];
            text_format(into, "poll_trip %u %lld", job->polls[i].sid, (long long)trip->limit);
            write_line(into, "", (char *[]){trip->before, trip->besides, NULL});
        }
    }
    for (size_t i = 0; i < job->n_prepares; i++) {
        text_format(into, "prepare ");
        text_field(into, job->prepares[i].name, strlen(job->prepares[i].name));
        write_line(into, "", job->prepares[i].argv);
    }
    for (size_t i = 0; i < job->n_trips; i++)
        text_format(into, "trip %u %lld\n", job->trips[i].cid, (long long)job->trips[i].limit);
    for (size_t i = 0; i < job->n_restores; i++)
        write_line(into, job->restores[i].is_exec ? "restore_exec" : "restore_write", job->restores[i].args);
}
