"""Names for runs and sweeps that sort by time."""

from __future__ import annotations

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SUFFIX_LENGTH = 8
_SUFFIXES = len(_ALPHABET) ** _SUFFIX_LENGTH
_MAX_STEP = 1 << 16

_lock = threading.Lock()
_last = (0, 0)


def new_id() -> str:
    """Return a new id such as `20261121-101530-0k3f9x2m`: UTC to the second, then 40 bits that no other id shares.

    Ids of one process sort in the order they were made, also within a second or when the clock is set back.
    """
    global _last
    with _lock:
        second, suffix = _last
        now = int(time.time())
        if now > second:
            # The lower half, so that there is room to count up within the second.
            second, suffix = now, secrets.randbelow(_SUFFIXES // 2)
        else:
            suffix += 1 + secrets.randbelow(_MAX_STEP)
        _last = (second, suffix)
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(second))}-{_letters(suffix)}"


def new_seed() -> int:
    """Return a seed that nobody chose, short enough to be typed again."""
    return secrets.randbelow(1_000_000)


def _letters(value: int) -> str:
    letters = []
    for _ in range(_SUFFIX_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(reversed(letters))
