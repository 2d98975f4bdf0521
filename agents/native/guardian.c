#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jobdir.h"
#include "platform.h"
#include "supervise.h"

/* Nothing of the caller stays open: a shell over adb or SSH would wait for it. */
static void leave_caller(int dir, int answer_fd) {
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    long limit = sysconf(_SC_OPEN_MAX);
    for (int fd = 3; fd < (limit > 0 && limit < 4096 ? limit : 4096); fd++)
        if (fd != dir && fd != answer_fd)
            close(fd);
}

static _Noreturn void guard(const struct job *job, int dir, int answer_fd) {
    leave_caller(dir, answer_fd);
    adopt_orphans();
    pid_t worker = fork();
    if (!worker)
        _exit(supervise(job, dir, answer_fd));
    close(answer_fd);
    signal(SIGTERM, SIG_IGN); /* who wants the job to stop tells the worker */
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    int status = 0;
    while (waitpid(worker, &status, 0) < 0 && errno == EINTR)
        continue;
    if (end_exists(dir) || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_BEGUN))
        _exit(0);
    struct pids pids;
    struct text restored = {0};
    if (pids_read(dir, &pids))
        pids_kill_children(&pids);
    restores_run(job, &restored);
    unlinkat(dir, "reserve", 0);
    end_write(dir, &(struct end){"agent_killed", monotonic_ns(), -1, -1, &restored, 0, true, false});
    _exit(0);
}

bool guardian_start(const struct job *job, int dir, struct text *answer) {
    int fds[2];
    if (pipe_cloexec(fds)) {
        text_format(answer, "pipe: %s", strerror(errno));
        return false;
    }
    pid_t middle = fork();
    if (middle < 0) {
        text_format(answer, "fork: %s", strerror(errno));
        return false;
    }
    if (!middle) {
        setsid();
        pid_t guardian = fork(); /* not the leader of the session: it can never get a terminal */
        if (!guardian)
            guard(job, dir, fds[1]);
        _exit(guardian < 0);
    }
    close(fds[1]);
    waitpid(middle, NULL, 0);
    char chunk[512];
    ssize_t n;
    while ((n = read(fds[0], chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0)
            text_add(answer, chunk, (size_t)n);
    close(fds[0]);
    if (answer->length > 3 && !strncmp(answer->data, "ok ", 3)) {
        memmove(answer->data, answer->data + 3, answer->length - 2);
        answer->length -= 3;
        return true;
    }
    if (!answer->length)
        text_format(answer, "the agent ended before its journal was open");
    return false;
}
