#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform.h"

#define EXEC_LIMIT_NS (5 * NS_PER_S)
#define EXEC_ATTEMPTS 3

extern char **environ;

static struct rlimit inherited_files;

void child_raise_file_limit(void) {
    if (getrlimit(RLIMIT_NOFILE, &inherited_files))
        return;
    struct rlimit raised = {inherited_files.rlim_max, inherited_files.rlim_max};
    if (raised.rlim_cur > 65536)
        raised.rlim_cur = 65536;
    if (raised.rlim_cur > inherited_files.rlim_cur)
        setrlimit(RLIMIT_NOFILE, &raised);
}

struct report { /* from a child that could not exec */
    int error;
    bool in_cwd;
};

/* Our environment with the plan's variables in front; built before the fork, where memory may be asked for. */
static char **merged_environment(char *const *extra) {
    size_t n_ours = 0, n_extra = 0, n = 0;
    while (environ[n_ours])
        n_ours++;
    while (extra && extra[n_extra])
        n_extra++;
    char **merged = checked_realloc(NULL, (n_ours + n_extra + 1) * sizeof *merged);
    for (size_t i = 0; i < n_extra; i++)
        merged[n++] = extra[i];
    for (size_t i = 0; i < n_ours; i++) {
        size_t name = strcspn(environ[i], "=") + 1;
        bool replaced = false;
        for (size_t k = 0; k < n_extra; k++)
            replaced |= !strncmp(environ[i], extra[k], name);
        if (!replaced)
            merged[n++] = environ[i];
    }
    merged[n] = NULL;
    return merged;
}

/* Between fork and exec: only calls that are safe in the child of a process with threads. */
static _Noreturn void become(const struct child_plan *plan, char **env, int go, int report_fd) {
    char start;
    setpgid(0, 0);
    die_with_parent();
    if (plan->is_runner)
        be_first_out_of_memory();
    if (read(go, &start, 1) != 1)
        _exit(127); /* the agent died before it let us go */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, 0);
    dup2(plan->out >= 0 ? plan->out : null, 1);
    dup2(plan->err >= 0 ? plan->err : null, 2);
    if (plan->affinity)
        affinity_set_self(plan->affinity); /* whether it worked is read back */
    if (inherited_files.rlim_cur)
        setrlimit(RLIMIT_NOFILE, &inherited_files);
    sigset_t none;
    sigemptyset(&none);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    struct report report = {.in_cwd = true};
    if (!plan->cwd || !chdir(plan->cwd)) {
        report.in_cwd = false;
        environ = env;
        execvp(plan->argv[0], plan->argv);
    }
    report.error = errno;
    (void)!write(report_fd, &report, sizeof report);
    _exit(127);
}

static bool fork_waiting(struct child *child, const struct child_plan *plan, int *go, int *report) {
    int go_pipe[2], report_pipe[2];
    if (pipe_cloexec(go_pipe))
        return false;
    if (pipe_cloexec(report_pipe)) {
        close(go_pipe[0]), close(go_pipe[1]);
        return false;
    }
    char **env = merged_environment(plan->env);
    child->pid = fork();
    if (!child->pid) {
        close(go_pipe[1]); /* else our own copy would keep us waiting for ever */
        become(plan, env, go_pipe[0], report_pipe[1]);
    }
    free(env);
    close(go_pipe[0]), close(report_pipe[1]);
    *go = go_pipe[1];
    *report = report_pipe[0];
    if (child->pid > 0) {
        setpgid(child->pid, child->pid); /* both sides do it: whoever comes first */
        return true;
    }
    close(*go), close(*report);
    child->pid = 0;
    return false;
}

/* Lets the child go on and waits for its exec, which closes the other end, or for its report of why there was none.
   Returns how many bytes of the report came, -1 with ETIMEDOUT when neither happened in time. */
static ssize_t wait_for_exec(int go, int report_fd, struct report *report) {
    int64_t limit_ns = monotonic_ns() + EXEC_LIMIT_NS;
    (void)!write(go, "", 1);
    struct pollfd exec = {.fd = report_fd, .events = POLLIN};
    for (;;) {
        int64_t left_ns = limit_ns - monotonic_ns();
        int ready = left_ns > 0 ? poll(&exec, 1, (int)(left_ns / NS_PER_MS) + 1) : 0;
        if (ready > 0)
            return read(report_fd, report, sizeof *report);
        if (!ready) {
            errno = ETIMEDOUT;
            return -1;
        }
        if (errno != EINTR)
            return -1;
    }
}

bool child_start(struct child *child, const struct child_plan *plan, void (*record)(void *), void *argument,
                 struct child_failure *failure) {
    /* A child of a process with threads may hang before its exec, in a lock that one of them held (seen under qemu's
       user emulation): it has done nothing yet, so another one may be tried. */
    for (int attempt = 1;; attempt++) {
        int go, report_fd;
        struct report report = {0};
        if (!fork_waiting(child, plan, &go, &report_fd)) {
            failure->error = errno;
            text_format(&failure->message, "fork: %s", strerror(errno));
            return false;
        }
        if (record)
            record(argument);
        ssize_t n = wait_for_exec(go, report_fd, &report);
        int problem = errno;
        close(go), close(report_fd);
        if (n == 0)
            return true;
        bool reported = n == (ssize_t)sizeof report;
        if (!reported)
            kill(child->pid, SIGKILL);
        waitpid(child->pid, NULL, 0);
        child->pid = 0;
        if (!reported && problem == ETIMEDOUT && attempt < EXEC_ATTEMPTS)
            continue;
        failure->error = reported ? report.error : problem;
        text_format(&failure->message, "%s%s: %s", report.in_cwd ? "cwd " : "",
                    report.in_cwd ? plan->cwd : plan->argv[0], strerror(failure->error));
        return false;
    }
}

bool child_ended(struct child *child, struct child_exit *ended) {
    siginfo_t info = {0};
    int status;
    if (!child->pid || waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid)
        return false;
    /* Not collected yet, its number cannot belong to anyone else: the moment to end its group. */
    kill(-child->pid, SIGKILL);
    if (wait4(child->pid, &status, 0, &ended->usage) < 0)
        status = 0;
    ended->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    ended->signal = WIFSIGNALED(status) ? WTERMSIG(status) : -1;
    child->pid = 0;
    return true;
}

void exit_fields(const struct child_exit *ended, struct text *json) {
    int exit_code = ended ? ended->exit_code : -1, signal = ended ? ended->signal : -1;
    text_format(json, exit_code < 0 ? ",\"exit_code\":null" : ",\"exit_code\":%d", exit_code);
    text_format(json, signal < 0 ? ",\"signal\":null" : ",\"signal\":%d", signal);
}

void child_signal(const struct child *child, int signal) {
    if (child->pid)
        kill(-child->pid, signal);
}

bool child_run(char *const *argv, int64_t limit_ms) {
    struct child child = {0};
    struct child_exit ended;
    struct child_failure failure = {0};
    struct child_plan plan = {.argv = argv, .out = -1, .err = -1};
    if (!child_start(&child, &plan, NULL, NULL, &failure)) {
        text_free(&failure.message);
        return false;
    }
    int64_t limit_ns = monotonic_ns() + limit_ms * NS_PER_MS;
    while (!child_ended(&child, &ended)) {
        if (monotonic_ns() > limit_ns)
            child_signal(&child, SIGKILL);
        sleep_until_ns(monotonic_ns() + NS_PER_MS);
    }
    return ended.exit_code == 0;
}

void kill_group(pid_t leader, int64_t limit_ms) {
    int64_t limit_ns = monotonic_ns() + limit_ms * NS_PER_MS;
    while (!kill(-leader, SIGKILL) && monotonic_ns() < limit_ns) {
        while (waitpid(-leader, NULL, WNOHANG) > 0) /* those that we adopted would stay as zombies */
            continue;
        sleep_until_ns(monotonic_ns() + NS_PER_MS);
    }
}
