"""Let jtop's Python see the board's processor, kernel and paths. Named sitecustomize.py in jtop's own path alone.

The kernel that runs all this is this machine's, and says so to every other program.
"""

import os
import platform
import sys

with open("/proc/sys/kernel/osrelease") as _file:  # noqa: PTH123
    _RELEASE = _file.read().strip()
_SEEN = os.uname_result(("Linux", "jetson", _RELEASE, "#1 SMP PREEMPT", "aarch64"))
os.uname = lambda: _SEEN
platform.machine = lambda: "aarch64"
platform.release = lambda: _RELEASE
sys.base_prefix = "/usr"  # below it jtop keeps its configuration
