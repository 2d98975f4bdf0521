"""The flag of verbs that reach phones: which adb server."""

from __future__ import annotations

import argparse
import os


def add_adb_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--adb-server HOST:PORT`, which holds for this process and for what it starts."""
    parser.add_argument(
        "--adb-server",
        metavar="HOST:PORT",
        action=_UseServer,
        help="reach phones through this adb server (default: that of ADB_SERVER_SOCKET, else 127.0.0.1:5037)",
    )


class _UseServer(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        """Check the address and keep it where adb itself looks for it."""
        host, _, port = str(values).rpartition(":")
        if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            parser.error(f"argument {option}: expected HOST:PORT, found {values!r}")
        os.environ["ADB_SERVER_SOCKET"] = f"tcp:{values}"
        setattr(namespace, self.dest, values)
