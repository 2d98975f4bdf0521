#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <libproc.h>
#include <mach/mach.h>
#include <mach/mach_time.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#include <time.h>
#include <unistd.h>

const char PLATFORM_OS[] = "macos";
const int64_t MAXRSS_UNIT_BYTES = 1;

int64_t monotonic_ns(void) { return (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW); }
int64_t realtime_ns(void) { return (int64_t)clock_gettime_nsec_np(CLOCK_REALTIME); }
int64_t boottime_ns(void) { return (int64_t)clock_gettime_nsec_np(CLOCK_MONOTONIC_RAW); }

/* macOS has no clock_nanosleep. The grid is absolute all the same: each sleep is measured anew against it. */
void sleep_until_ns(int64_t t_ns) {
    int64_t left = t_ns - monotonic_ns();
    if (left > 0) {
        struct timespec t = {left / NS_PER_S, left % NS_PER_S};
        nanosleep(&t, NULL);
    }
}

uint64_t process_start(pid_t pid) {
    struct kinfo_proc info;
    size_t size = sizeof info;
    int name[4] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, pid};
    memset(&info, 0, sizeof info);
    if (sysctl(name, 4, &info, &size, NULL, 0) || !size || info.kp_proc.p_stat == 5 /* SZOMB */)
        return 0;
    return (uint64_t)info.kp_proc.p_starttime.tv_sec * 1000000u + (uint64_t)info.kp_proc.p_starttime.tv_usec;
}

const char *boot_id(void) {
    static char id[64];
    size_t size = sizeof id;
    if (!*id && sysctlbyname("kern.bootsessionuuid", id, &size, NULL, 0))
        *id = 0;
    return id;
}

int64_t own_rss_bytes(void) {
    struct mach_task_basic_info info;
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) != KERN_SUCCESS)
        return -1;
    return (int64_t)info.resident_size;
}

bool sync_data(int fd) { return fcntl(fd, F_FULLFSYNC) == 0 || fsync(fd) == 0; }

bool keep_room(int fd, int64_t bytes) {
    fstore_t room = {.fst_flags = F_ALLOCATEALL, .fst_posmode = F_PEOFPOSMODE, .fst_length = bytes};
    return !bytes || fcntl(fd, F_PREALLOCATE, &room) != -1 || errno != ENOSPC;
}

int64_t modified_ns(const struct stat *info) {
    return info->st_mtimespec.tv_sec * NS_PER_S + info->st_mtimespec.tv_nsec;
}

int64_t changed_ns(const struct stat *info) {
    return info->st_ctimespec.tv_sec * NS_PER_S + info->st_ctimespec.tv_nsec;
}

int pipe_cloexec(int fds[2]) {
    if (pipe(fds))
        return -1;
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    return 0;
}

bool affinity_valid(const char *list) { return *list != 0; }

bool affinity_set_self(const char *list) {
    (void)list;
    return false;
}

bool affinity_get(pid_t pid, struct text *list) {
    (void)pid, (void)list;
    return false;
}

int64_t oom_kill_count(void) { return -1; }

/* Times of a process come in the units of mach_absolute_time(), which are no nanoseconds on Apple silicon. */
static uint64_t absolute_to_ns(uint64_t time) {
    static mach_timebase_info_data_t base;
    if (!base.denom && mach_timebase_info(&base) != KERN_SUCCESS)
        return 0;
    return time / base.denom * base.numer + time % base.denom * base.numer / base.denom;
}

static bool answer_usage(pid_t pid, struct text *answer) {
    struct rusage_info_v4 usage;
    if (proc_pid_rusage(pid, RUSAGE_INFO_V4, (rusage_info_t *)&usage))
        return false;
    const struct {
        const char *name;
        uint64_t value;
    } lines[] = {
        {"user_ns", absolute_to_ns(usage.ri_user_time)},
        {"system_ns", absolute_to_ns(usage.ri_system_time)},
        {"resident_bytes", usage.ri_resident_size},
        {"footprint_bytes", usage.ri_phys_footprint},
        {"footprint_peak_bytes", usage.ri_lifetime_max_phys_footprint},
        {"wired_bytes", usage.ri_wired_size},
        {"pageins", usage.ri_pageins},
        {"disk_read_bytes", usage.ri_diskio_bytesread},
        {"instructions", usage.ri_instructions},
        {"cycles", usage.ri_cycles},
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        text_format(answer, "%s: %llu\n", lines[i].name, (unsigned long long)lines[i].value);
    return true;
}

/* As Linux writes it in /proc/stat: user, nice, system, idle, in hundredths of a second. */
static bool answer_cpus(struct text *answer) {
    static mach_port_t host; /* each call of mach_host_self() takes another reference */
    processor_info_array_t info;
    natural_t n_cpus;
    mach_msg_type_number_t n_info;
    if (!host)
        host = mach_host_self();
    if (host_processor_info(host, PROCESSOR_CPU_LOAD_INFO, &n_cpus, &info, &n_info) != KERN_SUCCESS) {
        errno = EIO;
        return false;
    }
    const processor_cpu_load_info_t loads = (processor_cpu_load_info_t)info;
    for (natural_t cpu = 0; cpu < n_cpus; cpu++) {
        const unsigned *ticks = loads[cpu].cpu_ticks;
        text_format(answer, "cpu%u %u %u %u %u\n", cpu, ticks[CPU_STATE_USER], ticks[CPU_STATE_NICE],
                    ticks[CPU_STATE_SYSTEM], ticks[CPU_STATE_IDLE]);
    }
    vm_deallocate(mach_task_self(), (vm_address_t)info, n_info * sizeof *info);
    return true;
}

ssize_t kernel_answer(const char *question, pid_t pid, char *into, size_t room) {
    struct text answer = {0};
    bool known = false;
    errno = ENOENT;
    if (!strcmp(question, KERNEL_QUESTION "usage:{pid}"))
        known = answer_usage(pid, &answer);
    else if (!strcmp(question, KERNEL_QUESTION "cpus"))
        known = answer_cpus(&answer);
    ssize_t length = known ? (ssize_t)(answer.length < room ? answer.length : room) : -1;
    if (known)
        memcpy(into, answer.data, (size_t)length);
    text_free(&answer);
    return length;
}

void thread_wants_exact_timers(void) {}
void thread_accepts_late_timers(void) {}
void adopt_orphans(void) {}
void die_with_parent(void) {}
void be_first_out_of_memory(void) {}
