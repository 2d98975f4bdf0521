#include "events.hpp"

#include <csignal>
#include <cstdarg>
#include <ctime>
#include <unistd.h>

int64_t now_ns() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

std::string text_of(const char * format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    std::string text(static_cast<size_t>(vsnprintf(nullptr, 0, format, arguments)), '\0');
    vsnprintf(&text[0], text.size() + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

Events::Events() : out(fdopen(dup(STDOUT_FILENO), "w")) {
    dup2(STDERR_FILENO, STDOUT_FILENO);
    // Who stops reading is told so by an error of write, not by a signal.
    signal(SIGPIPE, SIG_IGN);
}

void Events::say(const char * event, const Json & fields) {
    Json line = {{"event", event}};
    line.update(fields);
    // Bytes that are no UTF-8 (a path, a log line) must not keep an event from being said.
    const std::string text = line.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
    if (!out || fputs(text.c_str(), out) < 0 || fflush(out) != 0) {
        throw Unheard("nobody reads the events any more");
    }
}

void Events::fail(const std::string & code, const std::string & message) {
    say("error", {{"code", code}, {"message", message}});
}

std::atomic<int64_t> Stop::at{never_ns};
std::atomic<bool> Stop::was_told{false};
static_assert(std::atomic<int64_t>::is_always_lock_free, "a signal handler writes it");

Stop::Stop() {
    struct sigaction action = {};
    action.sa_handler = [](int) {
        was_told = true;
        at = 0;
    };
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, nullptr);
}

void Stop::set(int64_t deadline_ns) {
    at = deadline_ns;
    if (was_told) {
        at = 0;
    }
}
