"""Measure how fast melt brings a file to a phone, beside `adb push` and adbutils, in turns and in one run.

    python benchmarks/transfer.py [--serial SERIAL] [--adb PROGRAM] [--adbd PROGRAM] [--size-mb 200] [--rounds 7]

Without `--serial` a virtual phone is played (Linux, as root), by an emulated daemon or by the real one that `--adbd`
names. There the link is memory, so that CPU time decides: nothing said here of a phone is said of its cable. With
`--serial` the phone is reached through the usual adb server.
Exit code 0 when every bound holds, 1 otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import adbutils
from rich.console import Console
from rounds import paired, seconds, table, transfers_in_turn, trips_in_turn

from melt.targets.agent import AgentBinaries, AgentClient
from melt.targets.blobs import Blobs
from melt.transports.adb import AdbTransport

_TMP = "/data/local/tmp"
_ROOT = f"{_TMP}/melt-transfer"
_TO_PUSH = 0.9
_SINK = """
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    static char chunk[1 << 20];
    long long left = argc == 3 ? atoll(argv[1]) : 0;
    int out = argc == 3 ? open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    for (ssize_t n; left > 0 && (n = read(0, chunk, sizeof chunk)) > 0; left -= n)
        if (write(out, chunk, (size_t)n) != n)
            return 1;
    return left != 0;
}
"""
"""What only takes a file: the bare end of the link, as adbd's own file service is that of `adb push`."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone, and the adb that reaches it."""

    serial: str
    adb: tuple[str, ...]
    port: int
    is_virtual: bool


@contextmanager
def reached(args: argparse.Namespace) -> Iterator[Phone]:
    """Reach the phone that was named, or play one."""
    if args.serial:
        port = int(os.environ.get("ANDROID_ADB_SERVER_PORT", "5037"))
        yield Phone(args.serial, (args.adb, "-s", args.serial), port, is_virtual=False)
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from virtual.phone import VirtualPhone
    from virtual.phone.clients import AdbServer

    with ExitStack() as stack:
        size_mb = 3 * args.size_mb + 64
        phone = stack.enter_context(VirtualPhone("pixel-8", data_mb=size_mb, adbd=args.adbd))
        server = stack.enter_context(AdbServer(Path(args.adb)))
        server.connect(phone.address)
        os.environ.update({"ADB_SERVER_SOCKET": f"tcp:127.0.0.1:{server.port}"})
        yield Phone(phone.address, (args.adb, "-s", phone.address), server.port, is_virtual=True)


def agents(phone: Phone) -> AgentBinaries:
    """Return the agents; on a virtual phone that of the machine, for speed says nothing under emulation."""
    found = AgentBinaries.find()
    if not phone.is_virtual:
        return found
    return AgentBinaries(
        found.version, found.folder, {**found.targets, "aarch64-linux-musl": found.targets["x86_64-linux-musl"]}
    )


def built_sink(folder: Path, phone: Phone) -> Path:
    """Compile the sink for the phone."""
    source, program = folder / "sink.c", folder / "sink"
    source.write_text(_SINK)
    target = "x86_64-linux-musl" if phone.is_virtual else "aarch64-linux-musl"
    words = (sys.executable, "-m", "ziglang", "cc", "-target", target, "-O2", "-static", "-o", program, source)
    subprocess.run(words, check=True, capture_output=True)
    return program


def measure(phone: Phone, folder: Path, size_mb: int, rounds: int) -> dict[str, list[float]]:
    """Take every figure once per round, the one that begins changing: MB/s of transfers, ms of round trips."""
    local = folder / "blob"
    local.write_bytes(os.urandom(size_mb * 1_000_000))
    size = local.stat().st_size
    sha256 = hashlib.sha256(local.read_bytes()).hexdigest()
    transport = AdbTransport(phone.serial)
    agent = AgentClient(transport, _ROOT, agents(phone))
    agent.deploy()
    blobs = Blobs(transport, agent, _ROOT)
    transport.push(built_sink(folder, phone), f"{_ROOT}/sink", mode=0o755)
    their = adbutils.AdbClient("127.0.0.1", phone.port).device(phone.serial)
    sink = (f"{_ROOT}/sink", str(size), f"{_TMP}/transfer")

    def push() -> None:
        subprocess.run((*phone.adb, "push", local, f"{_TMP}/transfer"), check=True, capture_output=True)

    def push_and_check() -> None:
        push()
        said = subprocess.run((*phone.adb, "shell", "sha256sum", f"{_TMP}/transfer"), check=True, capture_output=True)
        if said.stdout.split()[0].decode() != sha256:
            sys.exit("transfer: the file did not arrive whole")

    def feed() -> None:
        if transport.feed(sink, local, timeout_s=60).exit_code:
            sys.exit("transfer: the file did not arrive whole")

    transfers: dict[str, Callable[[], object]] = {
        "adb push": push,
        "melt, feed alone": feed,
        "adb push, then sha256sum": push_and_check,
        "melt, verified on the phone": lambda: blobs.ensure(local, sha256),
        "adbutils sync.push": lambda: their.sync.push(local, f"{_TMP}/transfer"),
    }
    trips: dict[str, Callable[[], object]] = {
        "adb shell true": lambda: subprocess.run((*phone.adb, "shell", "true"), check=True, capture_output=True),
        "melt, run true": lambda: transport.run(("true",)),
        "adbutils shell true": lambda: their.shell2(["true"], v2=True),
    }
    seen = defaultdict(list)

    def clear() -> None:
        transport.run(("rm", "-rf", f"{_ROOT}/blobs", f"{_TMP}/transfer"))

    try:
        for number in range(rounds):
            transfers_in_turn(transfers, number, rounds, size, clear, seen)
            trips_in_turn(trips, seen)
            seen["melt, there already"].append(_again(blobs, local, sha256))
    finally:
        transport.run(("rm", "-rf", _ROOT, f"{_TMP}/transfer"))
    return seen


def _again(blobs: Blobs, local: Path, sha256: str) -> float:
    blobs.ensure(local, sha256)
    return 1e3 * seconds(lambda: blobs.ensure(local, sha256))


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how fast melt brings a file to a phone, beside adb itself.")
    parser.add_argument("--serial", help="a real phone, as `adb devices` lists it (default: play a virtual one)")
    parser.add_argument("--adb", default=shutil.which("adb") or adbutils.adb_path(), help="the adb to compare with")
    parser.add_argument("--adbd", default="emulated", help="a real adb daemon for the virtual phone")
    parser.add_argument("--size-mb", type=int, default=200, help="(default: 200)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    args = parser.parse_args()
    version = subprocess.run((args.adb, "version"), capture_output=True, text=True, check=True).stdout.splitlines()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="melt-transfer-") as name, reached(args) as phone:
        seen = measure(phone, Path(name), args.size_mb, max(2, args.rounds))
    what = "virtual phone" if phone.is_virtual else phone.serial
    daemon = f", adbd {Path(args.adbd).name}" if phone.is_virtual else ""
    title = f"{args.size_mb} MB to a {what}{daemon}; {version[1]}; {os.cpu_count()} cores, load {load:.1f} before"
    Console(width=100).print(table(title, seen, "adb push", "adb shell true", "adb"))
    ratio = paired(seen["melt, feed alone"], seen["adb push"])
    holds = ratio >= _TO_PUSH
    print(f"feed alone / adb push: {ratio:.2f}, bound {_TO_PUSH}: {'holds' if holds else 'MISSED'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
