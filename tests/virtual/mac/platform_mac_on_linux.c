/* The agent's Linux platform, but for the questions to the kernel, which it answers as a Mac with many CPUs would. */

#define kernel_answer kernel_answer_of_linux
#include "platform_linux.c"
#undef kernel_answer

enum { CPUS = 32, TICKS_PER_S = 100 };
static const long long NS_PER_TICK = 1000000000LL / TICKS_PER_S;

static bool answer_usage(pid_t pid, struct text *answer) {
    char path[64], line[1024];
    unsigned long long user, system, faults;
    long long resident = 0, peak = 0, anonymous = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool whole = fgets(line, sizeof line, file);
    fclose(file);
    const char *rest = whole ? strrchr(line, ')') : NULL;
    if (!rest || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %llu %*u %llu %llu", &faults, &user, &system) != 3)
        return false;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        sscanf(line, "VmRSS: %lld", &resident);
        sscanf(line, "VmHWM: %lld", &peak);
        sscanf(line, "RssAnon: %lld", &anonymous);
    }
    if (file)
        fclose(file);
    text_format(answer, "user_ns: %lld\nsystem_ns: %lld\nresident_bytes: %lld\nfootprint_bytes: %lld\n",
                (long long)user * NS_PER_TICK, (long long)system * NS_PER_TICK, resident * 1024, anonymous * 1024);
    text_format(answer, "footprint_peak_bytes: %lld\nwired_bytes: 0\npageins: %llu\ndisk_read_bytes: 0\n", peak * 1024, faults);
    text_format(answer, "instructions: 0\ncycles: 0\n");
    return true;
}

/* This machine has fewer CPUs than the Mac: they are told several times. */
static bool answer_cpus(struct text *answer) {
    unsigned long long ticks[CPUS][4];
    char line[512];
    int found = 0;
    FILE *file = fopen("/proc/stat", "re");
    while (file && found < CPUS && fgets(line, sizeof line, file))
        if (!strncmp(line, "cpu", 3) && line[3] != ' ')
            found += sscanf(line, "cpu%*d %llu %llu %llu %llu", &ticks[found][0], &ticks[found][1], &ticks[found][2],
                            &ticks[found][3]) == 4;
    if (file)
        fclose(file);
    for (int cpu = 0; found && cpu < CPUS; cpu++) {
        const unsigned long long *told = ticks[cpu % found];
        text_format(answer, "cpu%d %llu %llu %llu %llu\n", cpu, told[0], told[1], told[2], told[3]);
    }
    return found;
}

ssize_t kernel_answer(const char *question, pid_t pid, char *into, size_t room) {
    struct text answer = {0};
    errno = ENOENT;
    bool known = !strcmp(question, KERNEL_QUESTION "usage:{pid}") ? answer_usage(pid, &answer)
                 : !strcmp(question, KERNEL_QUESTION "cpus")      ? answer_cpus(&answer)
                                                                  : false;
    ssize_t length = known ? (ssize_t)(answer.length < room ? answer.length : room) : -1;
    if (known)
        memcpy(into, answer.data, (size_t)length);
    text_free(&answer);
    return length;
}
