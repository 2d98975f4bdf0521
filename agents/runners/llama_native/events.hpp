// What the runner says and when it ends: events of agents/PROTOCOL.md, failures, the deadline, the clock.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

using Json = nlohmann::ordered_json;

// CLOCK_MONOTONIC in nanoseconds.
int64_t now_ns();

// printf into a string.
__attribute__((format(printf, 1, 2))) std::string text_of(const char * format, ...);

// A run that cannot be, with one of the codes of agents/PROTOCOL.md and one sentence for a person.
struct Failure : std::runtime_error {
    Failure(std::string code, const std::string & message) : std::runtime_error(message), code(std::move(code)) {}
    std::string code;
};

// The reader of the events is gone, or its disk is full: nothing more can be said.
struct Unheard : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The events, one JSON object a line, on what was stdout when the process started. From then on file descriptor 1 is
// stderr: a stray print of a library cannot come between two events.
class Events {
public:
    Events();
    // Print one event at once; never called inside a timed phase. Throws Unheard.
    void say(const char * event, const Json & fields);
    void fail(const std::string & code, const std::string & message);

private:
    FILE * out;
};

// When to end: a point of the monotonic clock, so that a timed loop asks one question for deadline and signal. It lies
// in the past once the process was told to end (SIGTERM).
class Stop {
public:
    Stop();
    static constexpr int64_t never_ns = INT64_MAX;
    // Set a deadline. A signal that already came stays.
    void set(int64_t deadline_ns);
    int64_t at_ns() const { return at.load(std::memory_order_relaxed); }
    bool told() const { return was_told.load(std::memory_order_relaxed); }
    // Why a loop that met at_ns ends, as the generation's `stop` says it.
    const char * reason() const { return told() ? "stopped" : "time"; }

private:
    static std::atomic<int64_t> at;
    static std::atomic<bool> was_told;
};
