"""Run pip: its output into a log, its progress out of its lines, and one sentence where it fails.

Standard library only, Python 3.6 and later.
"""

import re
import signal
import subprocess
from collections import deque

from board import Failure

_TAIL_LINES = 30
# ninja says [12/345], make says [ 12%].
_COUNTED = re.compile(r"^\s*\[(\d+)/(\d+)\]")
_PERCENT = re.compile(r"^\s*\[\s*(\d+)%\]")
_ACTIVITIES = re.compile(r"^\s*((?:Downloading|Building wheel for|Installing collected packages:) ?.*)")
_MAX_ACTIVITY = 120

_NO_NETWORK = (
    r"Temporary failure in name resolution|Name or service not known|nodename nor servname|getaddrinfo failed"
    r"|Failed to establish a new connection|NewConnectionError|Network is unreachable|Connection refused"
    r"|ConnectTimeoutError|Read timed out|ReadTimeoutError|ProxyError|Tunnel connection failed|SSLError"
    r"|CERTIFICATE_VERIFY_FAILED"
)
_NO_MEMORY = "memory ran out: end other programs or add swap, then provision again, which goes on where it broke off"
_CAUSES = (
    (
        r"No space left on device|Errno 28\b|uota exceeded",
        "the disk is full: make room below {root}, then provision again",
    ),
    (
        r"Killed signal terminated program|virtual memory exhausted|Cannot allocate memory|ptxas fatal.*memory"
        r"|c\+\+: fatal error: Killed|nvcc error.*signal 9|MemoryError",
        _NO_MEMORY,
    ),
    (
        r"No CMAKE_C(XX)?_COMPILER could be found|CMAKE_C(XX)?_COMPILER not set",
        "there is no C++ compiler: `sudo apt install build-essential`, on a Mac `xcode-select --install`",
    ),
    (
        r"CUDA::cublas",
        "this CUDA has no cuBLAS to build with: install the rest of it, as with `sudo apt install nvidia-jetpack` on a "
        "Jetson, or use --cpu",
    ),
    (
        r"unsupported GNU version",
        "this CUDA compiler does not take a gcc so new: install the one that its message names, or use --cpu",
    ),
    (
        r"Unsupported gpu architecture",
        "this CUDA compiler does not know the board's GPU: install the CUDA of its JetPack, or use --cpu",
    ),
    (
        # A board without a battery for its clock wakes up in the past.
        r"certificate is not yet valid|certificate has expired",
        "a certificate is out of its time: is the device's clock right? `date` shows it, NTP sets it",
    ),
    (
        _NO_NETWORK,
        "the package index cannot be reached from there: check its network and name server, and behind a proxy set "
        "one with `pip config set global.proxy URL`",
    ),
)
_NO_MATCH = re.compile(r"No matching distribution found for (\S+)")
_ERROR = re.compile(r"^\s*(?:ERROR|error|fatal error|CMake Error)\b[: ]*(.+)", re.MULTILINE)


class NoMatchError(Failure):
    """The index was asked and has no such package for this Python and this processor."""


def run(argv, log, say, root, environment):
    """Run pip, or what it is made with, to its end.

    All output goes to the open file `log`; what it tells of progress is said with `say(event, **fields)`. Raises
    Failure, NoMatchError.
    """
    log.write("$ %s\n" % " ".join(argv))
    log.flush()
    tail = deque(maxlen=400)
    counted = None
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    ) as process:
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            log.write(line + "\n")
            log.flush()
            tail.append(line)
            now = progress(line)
            if now is not None and now != counted:
                counted = now
                say("progress", done=now[0], total=now[1])
            activity = _ACTIVITIES.match(line)
            if activity:
                say("activity", what=activity.group(1)[:_MAX_ACTIVITY])
    if process.returncode:
        raise explain(list(tail), process.returncode, root)


def progress(line):
    """Return (done, total) that a line of a build tells, None for any other line."""
    counted = _COUNTED.match(line)
    if counted and int(counted.group(2)):
        return int(counted.group(1)), int(counted.group(2))
    percent = _PERCENT.match(line)
    return (int(percent.group(1)), 100) if percent else None


def explain(lines, code, root):
    """Return the Failure for what a program printed before it ended with `code`; its tail goes along."""
    text = "\n".join(lines)
    kind, message = Failure, None
    for pattern, sentence in _CAUSES:
        if re.search(pattern, text):
            message = sentence.format(root=root)
            break
    if message is None and code == -signal.SIGKILL:
        message = _NO_MEMORY
    no_match = _NO_MATCH.search(text)
    if message is None and no_match:
        kind, message = NoMatchError, "the package index has no %s for this Python and processor" % no_match.group(1)
    if message is None:
        errors = _ERROR.findall(text)
        message = "pip failed: %s" % (errors[0].strip() if errors else "exit code %d" % code)
    failure = kind(message)
    failure.tail = lines[-_TAIL_LINES:]
    return failure
