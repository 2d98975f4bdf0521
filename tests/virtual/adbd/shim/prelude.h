// Included before each C++ file of adbd: what Android's own headers and compiler bring along.

#pragma once

#include <atomic>
#include <optional>

#include <android-base/thread_annotations.h>
#include <private/fs_config.h>

// clang alone understands these annotations; gcc refuses them on definitions.
#undef THREAD_ANNOTATION_ATTRIBUTE__
#define THREAD_ANNOTATION_ATTRIBUTE__(x)
