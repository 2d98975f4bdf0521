#ifndef MELT_VERSION_H
#define MELT_VERSION_H

#define PROTOCOL 1

#ifndef MELT_AGENT_VERSION /* agents/build.py gives the hash of the sources */
#error "build with agents/build.py"
#endif

#if defined(__x86_64__)
#define PLATFORM_ARCH "x86_64"
#elif defined(__aarch64__)
#define PLATFORM_ARCH "aarch64"
#else
#error "unknown architecture"
#endif

#endif
