"""Which keys hosts have, by the files of OpenSSH and by melt's own.

The format: sshd(8), section SSH_KNOWN_HOSTS FILE FORMAT. Certificates of hosts are not understood.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import fnmatch
import hashlib
import hmac
import os
import secrets
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from melt.errors import DeviceError

_REVOKED = "@revoked"
_REVOCATION_LIST = b"SSHKRL\n\0"


@dataclass(frozen=True, slots=True)
class Known:
    """A key that a file has for a host. `where` is `file:line`.

    `is_exact` when it stands for the very port: one of the bare name lets in, but says nothing of who else is there.
    """

    where: str
    algorithm: str
    key: bytes
    is_revoked: bool
    is_exact: bool = True


def own_file() -> Path:
    """Return the file in which melt keeps the keys that `melt devices trust` accepted."""
    return platformdirs.user_config_path("melt") / "known_hosts"


def known(names: Sequence[str], files: Iterable[Path]) -> list[Known]:
    """Return the keys of a host, by the first of its names that has any; what is revoked is revoked for all."""
    lines = [line for file in files for line in _lines(file)]
    revoked = [entry for patterns, entry in lines if entry.is_revoked and _matches(patterns, names)]
    for name in names:
        found = [entry for patterns, entry in lines if not entry.is_revoked and _matches(patterns, (name,))]
        if found:
            return [replace(entry, is_exact=name == names[0]) for entry in found] + revoked
    return revoked


def revoked_in(file: Path, algorithm: str, key: bytes) -> list[Known]:
    """Return the key if a file of RevokedHostKeys has it: public keys, one a line, or what `ssh-keygen -k` makes.

    Raises DeviceError where the file cannot be read: like OpenSSH, melt then enters no host at all.
    """
    public = f"{algorithm} {base64.b64encode(key).decode()}"
    try:
        if not file.read_bytes().startswith(_REVOCATION_LIST):
            listed = (number for number, line in enumerate(_text(file), 1) if public in line)
            return [Known(f"{file}:{number}", algorithm, key, is_revoked=True) for number in listed]
        asked = ("ssh-keygen", "-Q", "-f", file, "/dev/stdin")
        done = subprocess.run(asked, input=public, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeviceError(f"cannot read {file}, which RevokedHostKeys names: {error.strerror or error}") from error
    if done.returncode and "REVOKED" not in done.stdout:
        raise DeviceError(f"cannot read {file}, which RevokedHostKeys names: {done.stderr.strip()}")
    return [Known(str(file), algorithm, key, is_revoked=True)] if done.returncode else []


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint as OpenSSH writes it: `SHA256:` and 43 characters."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def comments(file: Path) -> list[str]:
    """Return what stands after the keys of a file, each once."""
    return list(dict.fromkeys(comment for line in _text(file) if (comment := _comment(line))))


def put(file: Path, line: str) -> None:
    """Add a line, in place of those for the same destination; others of its host get this key. Raises DeviceError."""
    words, comment = line.split()[:3], _comment(line)

    def change(lines: list[str]) -> list[str]:
        others = (each for each in lines if _comment(each) != comment)
        return [
            *(" ".join((*words, _comment(each))) if each.split()[:1] == words[:1] else each for each in others),
            line,
        ]

    _rewrite(file, change)


def take(file: Path, comment: str) -> bool:
    """Remove the lines for a destination; False where there was none. Raises DeviceError."""
    if comment not in comments(file):
        return False
    _rewrite(file, lambda lines: [each for each in lines if _comment(each) != comment])
    return True


def _lines(file: Path) -> Iterator[tuple[str, Known]]:
    for number, line in enumerate(_text(file), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", _REVOKED):
            continue
        try:
            key = base64.b64decode(words[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        yield words[0], Known(f"{file}:{number}", words[1], key, marker == _REVOKED)


def _text(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        # Silence would make a known host an unknown one, and a revoked key a good one.
        raise DeviceError(f"cannot read {file}: {error.strerror or error}") from error


def _comment(line: str) -> str:
    words = line.split(maxsplit=3)
    return words[3].strip() if len(words) == 4 and not words[0].startswith(("#", "@")) else ""


def _matches(patterns: str, names: Iterable[str]) -> bool:
    return any(_matches_one(patterns, name) for name in names)


def _matches_one(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        return _is_hash_of(patterns, name)
    found = False
    for pattern in patterns.lower().split(","):
        # Brackets stand for themselves here: they enclose a host that has a port.
        glob = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name, glob):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in hashed.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def _rewrite(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Replace a file's lines as a whole, while nobody else does; a link stays one."""
    file = file.resolve()
    temporary = file.parent / f".{secrets.token_hex(8)}.part"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file.with_name(file.name + ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lines = change(_text(file))
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
                target.write("".join(f"{line}\n" for line in lines))
                target.flush()
                os.fsync(target.fileno())
            temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DeviceError(f"cannot write {file}: {error.strerror or error}") from error
