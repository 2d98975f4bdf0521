"""The probes: each asks something that melt, adb or adbutils relies on, or that an emulator easily gets wrong."""

from __future__ import annotations

import struct

from .probes import Probe, Step, adb, service, shell, shell_packet, sync

_TREE = {"tree/a": b"1\n", "tree/sub/b": b"2\n", "tree/sub/empty": b""}
_ONE = {"one": b"one file\n" * 1000}
_BIG = {"big": bytes(range(256)) * 12_000}


def _probe(name: str, *steps: Step, files: dict[str, bytes] | None = None) -> Probe:
    return Probe(name, steps, files or {})


_SHELL = (
    _probe("state", adb("get-state")),
    _probe("streams-and-exit-code", shell("echo out; echo err >&2; exit 7")),
    _probe("exit-255", shell("exit 255")),
    _probe("killed-by-9", shell("kill -9 $$")),
    _probe("killed-by-15", shell("kill -15 $$")),
    _probe("killed-child", shell("sh -c 'kill -11 $$'; echo $?")),
    _probe("identity", shell("id; pwd; umask; echo $0; echo $HOME")),
    _probe("environment", shell("env | grep -v ^_= | sort")),
    _probe("file-descriptors", shell("ls /proc/self/fd | wc -l")),
    _probe("signals-not-ignored", shell("grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status")),
    _probe("session", shell("set -- $(cat /proc/$$/stat); [ $5 = $$ ] && [ $6 = $$ ] && echo leader; echo $7")),
    _probe("no-such-program", shell("nosuch")),
    _probe("not-executable", shell("/system/etc/mkshrc")),
    _probe("empty-command", adb("shell", "", send=b"echo from stdin; exit 6\n")),
    _probe("interactive-without-terminal", adb("shell", send=b"echo one\nexit 9\n")),
    _probe("quoting", shell("echo 'quo te' \"dq\" $HOME")),
    _probe("arguments-are-joined", adb("shell", "echo", "a  b", "c'd\\'")),
    _probe("loop", shell("i=0; while [ $i -lt 3 ]; do echo $i; i=$((i+1)); done")),
    _probe("non-ascii", shell("printf '\\303\\251\\377\\n'; echo é")),
    _probe("long-command", shell(f"echo {'x' * 8000} | wc -c")),
    _probe("binary-stays-binary", adb("exec-out", "printf 'a\\r\\nb\\n'; echo err >&2")),
    _probe("exec-out-3-MB", adb("exec-out", "head -c 3000000 /dev/zero")),
    _probe("input-and-its-end", shell("cat; echo eof", send=b"hi\n")),
    _probe("input-of-a-megabyte", shell("md5sum", send=b"0123456789abcdef" * 65_536)),
    _probe("input-not-read", shell("exit 3", send=b"x" * 300_000)),
    _probe("output-of-588-KB", shell("seq 100000")),
    _probe("both-streams-much", shell("seq 20000; seq 20000 >&2")),
    _probe("no-input", adb("shell", "-n", "cat; echo done")),
    _probe("terminal-refused", adb("shell", "-T", "tty")),
    _probe("terminal-forced", adb("shell", "-t", "-t", "tty; stty size; exit 4")),
    _probe("terminal-newlines", adb("shell", "-t", "-t", "echo a; echo b >&2")),
    _probe("terminal-hangup", adb("shell", "-t", "-t", "sleep 0.2 & echo started")),
    _probe("protocol-1", adb("shell", "-x", "echo legacy; echo err >&2; exit 3")),
    _probe("background-holds-the-stream", shell("sleep 0.3 & echo started")),
    _probe("background-detached", shell("sleep 5 >/dev/null 2>&1 </dev/null & echo started")),
    _probe("one-stream-closed-early", shell("exec >&-; sleep 0.1; echo late >&2")),
    _probe("escape-characters", adb("shell", "-e", "none", "cat", send=b"~.\n~~\n")),
)

_FILES = (
    _probe(
        "push",
        adb("push", "{local}/one", "{remote}/d/e/f"),
        shell("cd {remote} && ls -lR | cut -c1-30 && wc -c d/e/f"),
        files=_ONE,
    ),
    _probe("push-large", adb("push", "{local}/big", "{remote}/big"), shell("md5sum {remote}/big"), files=_BIG),
    _probe(
        "push-over-a-file",
        shell("echo old > {remote}/f; chmod 400 {remote}/f"),
        adb("push", "{local}/one", "{remote}/f"),
        shell("ls -l {remote}/f | cut -c1-10; wc -c {remote}/f"),
        files=_ONE,
    ),
    _probe(
        "push-over-a-link",
        shell("cd {remote}; echo target > t; ln -s t l"),
        adb("push", "{local}/one", "{remote}/l"),
        shell("cd {remote}; cat t; ls -l | cut -c1-10"),
        files=_ONE,
    ),
    _probe("push-into-a-folder", adb("push", "{local}/one", "{remote}"), shell("ls {remote}"), files=_ONE),
    _probe("push-nothing", adb("push", "{local}/absent", "{remote}/x")),
    _probe("push-to-read-only", adb("push", "{local}/one", "/system/x"), files=_ONE),
    _probe("push-to-forbidden", adb("push", "{local}/one", "/data/x"), files=_ONE),
    _probe("push-to-forbidden-folder", adb("push", "{local}/one", "/nope/x"), files=_ONE),
    _probe("push-below-a-file", shell("echo > {remote}/f"), adb("push", "{local}/one", "{remote}/f/g"), files=_ONE),
    _probe(
        "push-to-shared-storage",
        adb("push", "{local}/one", "/sdcard/Download/one"),
        shell("ls -l /sdcard/Download/one | cut -c1-26; rm /sdcard/Download/one"),
        files=_ONE,
    ),
    _probe(
        "push-folder",
        adb("push", "{local}/tree", "{remote}/tree"),
        shell("cd {remote} && find . | sort && cat tree/sub/b"),
        files=_TREE,
    ),
    _probe(
        "push-sync",
        adb("push", "{local}/tree", "{remote}"),
        adb("push", "--sync", "{local}/tree", "{remote}"),
        files=_TREE,
    ),
    _probe("pull", adb("pull", "/proc/version", "{local}/got")),
    _probe("pull-large", shell("seq 300000 > {remote}/n"), adb("pull", "{remote}/n", "{local}/n")),
    _probe(
        "pull-folder",
        adb("push", "{local}/tree", "{remote}/tree"),
        adb("pull", "{remote}/tree", "{local}/back"),
        files=_TREE,
    ),
    _probe("pull-with-time", shell("echo > {remote}/f"), adb("pull", "-a", "{remote}/f", "{local}/f")),
    _probe("pull-absent", adb("pull", "/data/nope", "{local}/x")),
    _probe("pull-forbidden", shell("cd {remote}; echo > f; chmod 000 f"), adb("pull", "{remote}/f", "{local}/f")),
    _probe("pull-a-link", shell("cd {remote}; echo t > t; ln -s t l"), adb("pull", "{remote}/l", "{local}/l")),
    _probe("list", shell("cd {remote}; echo x > b; touch -d 2020-01-01T00:00:00 b"), adb("ls", "{remote}/b")),
    _probe("list-absent", adb("ls", "/data/nope")),
)

_DONE_SEND = b"DONE" + struct.pack("<I", 1_500_000_000)
_DATA = b"DATA" + struct.pack("<I", 5) + b"hello"
_SYNC = (
    _probe("sync-stat-absent", sync(b"STAT", b"/nope")),
    _probe("sync-stat2-absent", sync(b"STA2", b"/nope")),
    _probe("sync-lstat2-forbidden", sync(b"LST2", b"/data/local/tmp/probe/x/y")),
    _probe("sync-stat-device", sync(b"STAT", b"/dev/null", answer_bytes=8)),
    _probe("sync-list-absent", sync(b"LIST", b"/nope")),
    _probe("sync-list2", sync(b"LIS2", b"/nope")),
    _probe("sync-receive-absent", sync(b"RECV", b"/nope")),
    _probe("sync-receive-folder", sync(b"RECV", b"/system")),
    _probe("sync-unknown", sync(b"WHAT", b"/x")),
    _probe("sync-path-too-long", sync(b"STAT", b"/" + b"x" * 1024)),
    _probe(
        "sync-send",
        sync(b"SEND", b"/data/local/tmp/probe/f,33188", _DATA + _DONE_SEND),
        shell("cat {remote}/f; ls -l {remote}/f | cut -c1-10; stat -c %Y {remote}/f"),
    ),
    _probe(
        "sync-send-octal-mode",
        sync(b"SEND", b"/data/local/tmp/probe/f,0100755", _DATA + _DONE_SEND),
        shell("ls -l {remote}/f | cut -c1-10"),
    ),
    _probe(
        "sync-send-a-link",
        sync(b"SEND", b"/data/local/tmp/probe/l,41471", b"DATA" + struct.pack("<I", 7) + b"target\0" + _DONE_SEND),
        shell("readlink {remote}/l"),
    ),
    _probe(
        "sync-send-without-mode", sync(b"SEND", b"/data/local/tmp/probe/f", _DATA + _DONE_SEND), shell("ls {remote}")
    ),
    _probe(
        "sync-send-bad-mode", sync(b"SEND", b"/data/local/tmp/probe/f,rw", _DATA + _DONE_SEND), shell("ls {remote}")
    ),
    _probe(
        "sync-send-not-data", sync(b"SEND", b"/data/local/tmp/probe/f,33188", b"BLAH\0\0\0\0"), shell("ls {remote}")
    ),
    _probe(
        "sync-send-too-much-at-once",
        sync(
            b"SEND", b"/data/local/tmp/probe/f,33188", b"DATA" + struct.pack("<I", 65_537) + bytes(65_537) + _DONE_SEND
        ),
        shell("ls {remote}"),
    ),
    _probe(
        "sync-send-into-a-folder",
        shell("mkdir {remote}/f"),
        sync(b"SEND", b"/data/local/tmp/probe/f,33188", _DATA + _DONE_SEND),
    ),
)

_V2 = "shell,v2,raw:"
_SERVICES = (
    _probe("service-shell", service("shell:echo hi; echo err >&2; exit 3")),
    _probe("service-shell-terminal", service("shell:tty; stty -a | grep -c '[ ]opost'")),
    _probe("service-exec", service("exec:echo hi; echo err >&2")),
    _probe("service-shell-v2", service(f"{_V2}echo hi; echo err >&2; exit 3")),
    _probe("service-shell-v2-input", service(f"{_V2}cat", shell_packet(0, b"in\n") + shell_packet(4))),
    _probe("service-shell-v2-terminal", service("shell,v2,TERM=vt100,pty:echo $TERM; tty")),
    _probe(
        "service-shell-v2-window",
        service("shell,v2,pty:read x; stty size", shell_packet(5, b"33x99,0x0\0") + shell_packet(0, b"\n")),
    ),
    _probe(
        "service-shell-v2-unknown-packet",
        service(f"{_V2}cat", shell_packet(99, b"?") + shell_packet(0, b"in\n") + shell_packet(4)),
    ),
    _probe("service-shell-unknown-option", service("shell,what:echo hi")),
    _probe("service-unknown", service("nosuch:thing")),
    _probe("service-tcp-refused", service("tcp:9")),
    _probe("service-tcp-bad-port", service("tcp:what")),
    _probe("service-local-absent", service("local:/nope")),
    _probe("service-abstract-absent", service("localabstract:nope")),
    _probe("service-device-file", service("dev:/system/etc/passwd")),
    _probe("service-device-absent", service("dev:/dev/nope")),
    _probe("service-source", service("source:100000")),
    _probe("service-sink", service("sink:5", b"hello")),
    _probe("service-root", adb("root")),
    _probe("service-remount", adb("remount")),
    _probe("service-unroot", service("unroot:")),
    _probe("service-jdwp-list", service("jdwp", answer_bytes=0)),
)

_FORWARDS = (
    _probe("forward-to-a-closed-port", adb("forward", "tcp:0", "tcp:9"), adb("forward", "--remove-all")),
    _probe(
        "reverse-list",
        adb("reverse", "tcp:7001", "tcp:7002"),
        adb("reverse", "--list"),
        adb("reverse", "--remove-all"),
        adb("reverse", "--list"),
    ),
    _probe("reverse-any-port", adb("reverse", "tcp:0", "tcp:7002"), adb("reverse", "--remove-all")),
    _probe(
        "reverse-again",
        adb("reverse", "tcp:7001", "tcp:7002"),
        adb("reverse", "tcp:7001", "tcp:7003"),
        adb("reverse", "--list"),
        adb("reverse", "--remove-all"),
    ),
    _probe(
        "reverse-no-rebind",
        adb("reverse", "tcp:7001", "tcp:7002"),
        adb("reverse", "--no-rebind", "tcp:7001", "tcp:7003"),
        adb("reverse", "--remove-all"),
    ),
    _probe(
        "reverse-remove",
        adb("reverse", "tcp:7001", "tcp:7002"),
        adb("reverse", "--remove", "tcp:7001"),
        adb("reverse", "--list"),
    ),
    _probe("reverse-remove-absent", adb("reverse", "--remove", "tcp:9999")),
    _probe(
        "reverse-abstract",
        adb("reverse", "localabstract:melt", "tcp:7002"),
        adb("reverse", "--list"),
        adb("reverse", "--remove-all"),
    ),
    _probe("reverse-privileged-port", adb("reverse", "tcp:80", "tcp:7002")),
)

PROBES = (*_SHELL, *_FILES, *_SYNC, *_SERVICES, *_FORWARDS)

_ANDROID_ONLY = (
    "AOSP builds this service into an adbd for Android only; the emulated one answers as a phone of a shop does"
)
_OF_NO_USE = "no test of a phone needs it: the emulated adbd does not offer it"

JUSTIFIED = {
    "service-root": _ANDROID_ONLY,
    "service-remount": _ANDROID_ONLY,
    "service-source": _OF_NO_USE,
    "service-sink": _OF_NO_USE,
    "service-jdwp-list": _OF_NO_USE,
    "sync-send-without-mode": "the emulated adbd speaks as Android 11 and later do, which have a second ID_SEND",
}
"""Probes whose answers differ, and why that is right. Whatever is not here must be answered alike."""
