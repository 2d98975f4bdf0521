"""Take out of a text what names a person, a place or one very device, so that it may be published. Pure.

What is taken out becomes a word in angle brackets; equal secrets become equal words, so that a reader still sees what
belongs together. Versions, models and numbers stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_UUID = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("uuid", re.compile(rf"(?<![0-9A-Za-z-])(?:GPU-|MIG-)?{_UUID}(?![0-9A-Za-z])")),
    # An Apple device's UDID: the chip, a dash, and the number of the one chip.
    ("udid", re.compile(r"(?<![0-9A-Za-z])[0-9A-F]{8}-[0-9A-F]{16}(?![0-9A-Za-z])")),
    ("mac", re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}[:]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])")),
    ("machine-id", re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{32}(?![0-9A-Za-z])")),
    ("mail", re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*[A-Za-z]")),
    (
        "address",
        re.compile(r"(?<![\w.])(?!127\.)(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])"),
    ),
)
_HOME = re.compile(r"(?<![\w.])(/(?:home|Users|var/home|export/home)/)(?!Shared\b)([^/\s\"':,;)\]>]+)")
_KEYED = re.compile(
    r"(?i)(?:serial(?:[ _-]?(?:no|num|number))?|imei|meid|iccid|udid|asset[ _-]?tag|ssid)[\w.)(\" -]{0,16}\]?"
    r"\s*(?:=>|[:=])\s*[<\[\"']*(?P<value>[^\s<>\[\]\"',;]{6,64})"
)
"""`ro.serialno]: [R5CT`, `"IOPlatformSerialNumber" = "C02X`, `Serial Number (system): C02X`."""
_PRIVATE_PATH = re.compile(r"(?i)(serial[-_]?number|serial|hostname|asset_tag)$")
_NO_SECRETS = frozenset(
    ("", "root", "shell", "nobody", "localhost", "none", "unknown", "local", "user", "users", "home", "true", "false")
) | {"admin", "debian", "jetson", "nvidia", "pi", "ubuntu"}  # users that an image comes with
_SHORTEST = 3


class Redactor:
    """Replaces secrets. `words` maps a secret that is known to what it is (`user`, `host`, `serial`)."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self._names: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        for word, kind in words.items():
            self._learn(word, kind)

    def learn(self, texts: Iterable[str]) -> None:
        """Find serial numbers by what stands before them, so that they are known wherever they come again."""
        for text in texts:
            for found in _KEYED.finditer(text):
                self._learn_number(found["value"])

    def learn_file(self, path: str, text: str) -> None:
        """Take the whole content of a file for a secret whose name says that it is one."""
        if _PRIVATE_PATH.search(path):
            kind = "host" if path.lower().endswith("hostname") else "serial"
            self._learn(text.strip(" \t\r\n\0"), kind)

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        if self._names:
            # The longest first: a home folder before the user's name in it.
            known = sorted(self._names, key=len, reverse=True)
            text = re.sub(rf"(?<![\w<])(?:{'|'.join(map(re.escape, known))})(?!\w)", self._known, text)
        for kind, pattern in _PATTERNS:
            text = pattern.sub(lambda found, kind=kind: self._named(found[0], kind), text)  # type: ignore[misc]
        return _HOME.sub(lambda found: found[1] + (found[2] if found[2].startswith("<") else "<user>"), text)

    def _learn_number(self, value: str) -> None:
        """Learn a value that can be a serial number: one without a digit is a word."""
        if re.search(r"\d", value):
            self._learn(value, "serial")

    def _learn(self, word: str, kind: str) -> None:
        if len(word) >= _SHORTEST and word.lower() not in _NO_SECRETS and word not in self._names:
            self._named(word, kind)

    def _known(self, found: re.Match[str]) -> str:
        return self._names[found[0]]

    def _named(self, secret: str, kind: str) -> str:
        if secret not in self._names:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            count = self._counts[kind]
            self._names[secret] = f"<{kind}>" if count == 1 else f"<{kind}-{count}>"
        return self._names[secret]
