"""One look at a device: what its files and a few commands say, kept with the run so that it can be read again."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from melt.errors import StoreError
from melt.transports.base import Transport

Snapshot = Mapping[str, bytes]
"""Path -> raw content, and `$ name` -> what a command printed. What could not be read, or failed, is absent."""

_COMMAND_TIMEOUT_S = 20.0
_FORMAT = "melt-snapshot"
_STEERS = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_IN_KB = re.compile(r"^(\w+):\s*(\d{1,15}) kB$", re.MULTILINE)


class ReadsFiles(Protocol):
    """What is asked of the agent here."""

    def read(self, globs: Sequence[str]) -> Mapping[str, bytes]:
        """Return the files that match and can be read."""
        ...


def take_snapshot(
    transport: Transport, agent: ReadsFiles, globs: Sequence[str], commands: Mapping[str, Sequence[str]]
) -> dict[str, bytes]:
    """Read all files in one round trip and run each command; one that fails or is not there is left out.

    Raises TransportError, AgentError.
    """
    snapshot = dict(agent.read(list(dict.fromkeys(globs))))
    for name, argv in commands.items():
        done = transport.run(argv, timeout_s=_COMMAND_TIMEOUT_S)
        if done.exit_code == 0:
            snapshot[f"$ {name}"] = done.stdout
    return snapshot


def text_of(snapshot: Snapshot, path: str) -> str | None:
    """Return a file's text without surrounding blanks and zero bytes, None when it is absent or empty.

    What would steer a terminal becomes U+FFFD: a name of firmware ends in tables.
    """
    raw = snapshot.get(path)
    return None if raw is None else _STEERS.sub("\ufffd", raw.decode(errors="replace")).strip(" \t\r\n\0") or None


def int_of(snapshot: Snapshot, path: str) -> int | None:
    """Return the whole number a file holds, None when it holds none, or one that no kernel counts to."""
    try:
        number = int(text_of(snapshot, path) or "")
    except ValueError:
        return None
    return number if -(2**64) < number < 2**64 else None


def keyed_bytes(snapshot: Snapshot, path: str) -> dict[str, int]:
    """Return the `Key:  123 kB` lines of a file, /proc/meminfo for one, in bytes."""
    text = text_of(snapshot, path) or ""
    return {key: int(value) * 1024 for key, value in _IN_KB.findall(text)}


def dump_snapshot(snapshot: Snapshot) -> bytes:
    """Write a snapshot as JSON: text as it is, anything else as {"base64": …}."""
    document = {"format": _FORMAT, "version": 1, "files": {path: _encode(snapshot[path]) for path in sorted(snapshot)}}
    return json.dumps(document, indent=1).encode()


def load_snapshot(data: bytes | str) -> dict[str, bytes]:
    """Read what `dump_snapshot` wrote. Raises StoreError."""
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT or document["version"] != 1:
            raise ValueError(f"found {document['format']} version {document['version']}")
        return {path: _decode(value) for path, value in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"not a snapshot of a device: {error}") from error


def _encode(raw: bytes) -> str | dict[str, str]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _decode(value: str | dict[str, str]) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"], validate=True)
