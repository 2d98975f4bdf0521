"""Measure how fast melt reaches a host over SSH, beside OpenSSH's `scp` and `ssh`, in turns and in one run.

    python benchmarks/transfer_ssh.py [--host DESTINATION] [--size-mb 200] [--rounds 7]

Without `--host` a server is started on this machine: the link is memory there, both ends share its cores, and so the
CPU time of encryption decides. "Kept" is OpenSSH with a connection that is there already (ControlMaster), as melt's is.
Exit code 0 when every bound holds, 1 otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rounds import paired, seconds, table, transfers_in_turn, trips_in_turn

from melt.targets.agent import AgentClient
from melt.targets.blobs import Blobs
from melt.transports.ssh import SshTransport

_TO_SCP = 0.9
_TO_SSH = 1.5


@contextmanager
def reached(host: str | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Reach the host that was named, or start a server; return the destination and options of OpenSSH for it."""
    if host is not None:
        file = os.environ.get("MELT_SSH_CONFIG")
        yield host, ("-F", file) if file else ()
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from virtual.sshd import Sshd

    with tempfile.TemporaryDirectory(prefix="melt-sshd-") as folder, Sshd(Path(folder)) as server:
        os.environ.update(server.environment)
        yield server.alias, ("-F", str(server.config))


@contextmanager
def kept_connection(options: tuple[str, ...], host: str, folder: Path) -> Iterator[tuple[str, ...]]:
    """Let OpenSSH keep a connection, and return the options that use it."""
    socket = ("-o", f"ControlPath={folder}/control")
    master = ("ssh", *options, *socket, "-o", "ControlMaster=yes", "-N", "-f", host)
    subprocess.run(master, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield (*options, *socket)
    finally:
        subprocess.run(("ssh", *options, *socket, "-O", "exit", host), check=False, capture_output=True)


def measure(host: str, options: tuple[str, ...], folder: Path, size_mb: int, rounds: int) -> dict[str, list[float]]:
    """Take every figure once per round: MB/s of transfers, ms of round trips."""
    local = folder / "blob"
    local.write_bytes(os.urandom(size_mb * 1_000_000))
    size = local.stat().st_size
    sha256 = hashlib.sha256(local.read_bytes()).hexdigest()
    transport = SshTransport(host)
    root = transport.run(("sh", "-c", "mktemp -d ~/melt-transfer-XXXXXX")).stdout.decode().strip()
    agent = AgentClient(transport, root)
    agent.deploy()
    blobs = Blobs(transport, agent, root)
    seen: defaultdict[str, list[float]] = defaultdict(list)

    def quietly(*words: str) -> None:
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)

    def clear() -> None:
        transport.run(("sh", "-c", 'rm -rf "$1"/blobs "$1"/there', "sh", root))

    with kept_connection(options, host, folder) as kept:

        def scp(*how: str) -> None:
            quietly("scp", "-q", *how, str(local), f"{host}:{root}/there")

        def scp_and_check() -> None:
            scp(*options)
            quietly("ssh", *kept, host, f"sha256sum {root}/there")

        transfers: dict[str, Callable[[], object]] = {
            "scp": lambda: scp(*options),
            "scp, kept": lambda: scp(*kept),
            "melt, push": lambda: transport.push(local, f"{root}/there"),
            "scp, then sha256sum": scp_and_check,
            "melt, verified on the host": lambda: blobs.ensure(local, sha256),
        }
        trips: dict[str, Callable[[], object]] = {
            "ssh true, kept": lambda: quietly("ssh", *kept, host, "true"),
            "melt, run true": lambda: transport.run(("true",)),
        }
        try:
            for number in range(rounds):
                transfers_in_turn(transfers, number, rounds, size, clear, seen)
                trips_in_turn(trips, seen)
                blobs.ensure(local, sha256)
                seen["melt, there already"].append(1e3 * seconds(lambda: blobs.ensure(local, sha256)))
        finally:
            transport.run(("rm", "-rf", root))
            transport.close()
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how fast melt reaches a host over SSH, beside OpenSSH.")
    parser.add_argument("--host", help="as ssh takes it (default: start a server on this machine)")
    parser.add_argument("--size-mb", type=int, default=200, help="(default: 200)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    args = parser.parse_args()
    version = subprocess.run(("ssh", "-V"), capture_output=True, text=True, check=True).stderr.strip().partition(",")[0]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="melt-transfer-") as name, reached(args.host) as (host, options):
        seen = measure(host, options, Path(name), args.size_mb, max(2, args.rounds))
    title = (
        f"{args.size_mb} MB to {args.host or 'this machine'}; {version}; {os.cpu_count()} cores, load {load:.1f} before"
    )
    Console(width=100).print(table(title, seen, "scp", "ssh true, kept", "OpenSSH"))
    push, trip = paired(seen["melt, push"], seen["scp"]), paired(seen["melt, run true"], seen["ssh true, kept"])
    holds = push >= _TO_SCP and trip <= _TO_SSH
    print(f"push / scp: {push:.2f}, bound {_TO_SCP}; run true / ssh true, kept: {trip:.2f}, bound {_TO_SSH}")
    print("holds" if holds else "MISSED")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
