// What llama.cpp really did with what it was asked: settings in force, devices, memory. Where the library has no
// question for it, the answer is read from its log (src/llama-context.cpp, llama-kv-cache.cpp).
#pragma once

#include "engine.hpp"

// What is in force, as the load event's `used`; null where the engine does not tell.
Json used(const Engine & engine, const Settings & settings);

// What the engine allocated, in bytes, as the load event's `memory`; null where it does not tell.
Json memory(const Engine & engine, const Settings & settings);

// The most memory that this process ever had resident.
int64_t peak_rss_bytes();
