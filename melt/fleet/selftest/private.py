"""What must not be told of a device and of this machine, and the document without it."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from melt.analysis.redact import Redactor
from melt.analysis.selftest import Selftest
from melt.codec import from_dict, to_dict
from melt.errors import MeltError
from melt.transports.base import Transport
from melt.transports.registry import names_behind

_ASKED: Mapping[str, tuple[str, ...]] = {
    "user": ("id", "-un"),
    "host": ("uname", "-n"),
    "home": ("sh", "-c", 'printf %s "$HOME"'),
    "computer": ("scutil", "--get", "ComputerName"),
}
"""Kind of secret -> how a device says it. What a system does not know is passed over."""


def secrets_here(selector: str) -> dict[str, str]:
    """Return what names this machine and its user, and the address by which the device is reached."""
    names = {str(Path.home()): "home", socket.gethostname(): "host"}
    with suppress(OSError, KeyError):
        names[getpass.getuser()] = "user"
    kind, _, address = selector.partition(":")
    user, _, host = address.rpartition("@") if kind == "ssh" else ("", "", address)
    names |= {address: "address", host: "address", host.partition(":")[0]: "address", user: "user"}
    with suppress(MeltError):
        names |= names_behind(selector)
    return names


def secrets_there(transport: Transport) -> dict[str, str]:
    """Return what a device says of its user and of its own name."""
    names = {}
    with suppress(MeltError):
        for kind, argv in _ASKED.items():
            done = transport.run(argv)
            said = done.stdout.decode(errors="replace").strip()
            if done.exit_code == 0 and len(said.splitlines()) == 1:
                names[said] = kind
                if kind == "host":
                    names[said.partition(".")[0]] = kind
    return names


def without_secrets(found: Selftest, secrets: Mapping[str, str]) -> Selftest:
    """Return the same document with every secret replaced, wherever it stands."""
    redact = Redactor(secrets)
    for path, text in found.snapshot.items():
        redact.learn_file(path, text)
    redact.learn([*found.snapshot.values(), *(step.finding.raw or "" for step in found.steps)])
    return from_dict(Selftest, _each_text(to_dict(found), redact))


def _each_text(data: Any, change: Callable[[str], str]) -> Any:
    if isinstance(data, str):
        return change(data)
    if isinstance(data, list):
        return [_each_text(item, change) for item in data]
    if isinstance(data, dict):
        return {change(key): _each_text(value, change) for key, value in data.items()}
    return data
