// Included before each C++ file of adbd: what Android's own headers and compiler bring along.

#pragma once

#include <paths.h>

#include <atomic>
#include <optional>

#include <android-base/thread_annotations.h>
#include <private/fs_config.h>

// clang alone understands these annotations; gcc refuses them on definitions.
#undef THREAD_ANNOTATION_ATTRIBUTE__
#define THREAD_ANNOTATION_ATTRIBUTE__(x)

// The C library names its own shell; Android's is elsewhere, and says so in its messages.
#undef _PATH_BSHELL
#define _PATH_BSHELL "/system/bin/sh"
