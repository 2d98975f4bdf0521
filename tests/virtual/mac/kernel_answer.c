/* What the Mac's kernel answers, on Linux: the agent's own platform_linux.c is built with its refusal under another name. */

#include "platform.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
