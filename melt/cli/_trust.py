"""`melt devices trust` and `forget`: whose key an SSH host has, shown to somebody who can say whether it is right."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melt.transports.ssh_trust import OfferedKey

_TRUST = "show the key of an SSH host, and trust it from now on"
_FORGET = "take back what `trust` did"
_HOST = "as `ssh` takes it: an alias of ~/.ssh/config, HOST, USER@HOST or USER@HOST:PORT"
_PREFIX = "ssh:"
_KEY_FILES = {"ED25519": "ed25519", "RSA": "rsa", "ECDSA": "ecdsa"}


def configure(verbs: Any) -> None:
    """Add both verbs to the parsers of `melt devices`."""
    trust = verbs.add_parser("trust", help=_TRUST, description=_TRUST, allow_abbrev=False)
    trust.add_argument("host", metavar="HOST", help=_HOST)
    trust.add_argument("--fingerprint", metavar="SHA256:...", help="trust it if its key has this fingerprint, else not")
    trust.add_argument("--yes", action="store_true", help="trust whatever key it shows, without asking")
    trust.add_argument(
        "--replace", action="store_true", help="trust it although another key of it is known: it was installed anew"
    )
    trust.set_defaults(act=_trust)
    forget = verbs.add_parser("forget", help=_FORGET, description=_FORGET, allow_abbrev=False)
    forget.add_argument("host", metavar="HOST", help="as it was given to `melt devices trust`")
    forget.set_defaults(act=_forget)


def _trust(args: argparse.Namespace) -> int:
    from melt.errors import UsageError
    from melt.transports import ssh_trust

    wanted = _fingerprint(args.fingerprint)
    key = ssh_trust.offered(args.host.removeprefix(_PREFIX))
    _say(_shown(key))
    if key.revoked:
        _say(f"melt: your known hosts revoke this key: {key.destination} is not trusted")
        return 1
    if wanted is not None and wanted != key.fingerprint:
        _say(f"melt: {key.destination} shows another key than {wanted}: it is not trusted")
        return 1
    if key.known and not key.changed:
        ssh_trust.trust(key)
        _say(f"melt: this key was known already; `melt devices` lists {_PREFIX}{key.destination} from now on")
        return 0
    without_asking = wanted is not None or (args.replace if key.changed else args.yes)
    if not without_asking and not _can_ask():
        flag = "--replace" if key.changed else "--yes"
        raise UsageError(
            f"whether this key of {key.destination} is right cannot be asked here, for this is no terminal: compare it "
            f"and give `--fingerprint {key.fingerprint}`, or `{flag}` to trust it as it is"
        )
    if not without_asking and not _agreed(key):
        _say(f"melt: {key.destination} is not trusted")
        return 1
    ssh_trust.trust(key)
    _say(f"melt: {key.destination} is trusted: measure on it with `--device {_PREFIX}{key.destination}`")
    if left := ssh_trust.left_after(key):
        _say(f"melt: the key of before still stands in {', '.join(left)}, and lets in who has it: remove it there")
    return 0


def _forget(args: argparse.Namespace) -> int:
    from melt.errors import UsageError
    from melt.transports import ssh_trust

    destination = args.host.removeprefix(_PREFIX)
    if not ssh_trust.forget(destination):
        known = ", ".join(ssh_trust.trusted()) or "none"
        raise UsageError(f"{destination} was not trusted by `melt devices trust`; these were: {known}")
    _say(f"melt: {destination} is forgotten; keys in your own known_hosts are as they were")
    return 0


def _fingerprint(text: str | None) -> str | None:
    """Return a fingerprint as OpenSSH writes it: its base64 without padding. Raises UsageError."""
    from melt.errors import UsageError

    if text is None:
        return None
    if not text.startswith("SHA256:") or not text.removeprefix("SHA256:"):
        raise UsageError(f"--fingerprint: expected SHA256: and what `ssh-keygen -lf` prints after it, found {text!r}")
    return text.rstrip("=")


def _shown(key: OfferedKey) -> str:
    """Write what a person needs to judge a key."""
    name = key.algorithm.upper().removeprefix("SSH-").partition("-")[0]
    file = _KEY_FILES.get(name, "*")
    lines = [
        f"host          {key.destination}",
        f"address       {key.host} port {key.port}",
        f"key           {key.fingerprint} ({name})",
        *(f"before        {old} ({where})" for old, where in zip(key.before, key.stands_at, strict=True)),
        "",
    ]
    if key.changed:
        lines += [
            "The key is ANOTHER ONE than before: the device was installed anew, or its address belongs to another",
            "device now, or somebody stands between you and it.",
        ]
    lines.append(f"To compare, on the device itself: ssh-keygen -lf /etc/ssh/ssh_host_{file}_key.pub")
    return "\n".join(lines)


def _can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _agreed(key: OfferedKey) -> bool:
    """Ask; the fingerprint itself is an answer, too, as it is to `ssh`."""
    question = "Trust the new key instead of the old one" if key.changed else "Trust this key"
    sys.stderr.write(f"{question}? Type yes, no, or the fingerprint: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() in ("yes", key.fingerprint)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
