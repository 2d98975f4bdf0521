// adbd includes libcap's header everywhere, but drops capabilities on Android only.

#pragma once

#include <private/android_filesystem_capability.h>
