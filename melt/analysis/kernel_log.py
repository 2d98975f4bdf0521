"""What a kernel's log has to say on one run: a log goes back to the boot, and older trouble is no evidence. Pure."""

from __future__ import annotations

import re

NOTHING = "(the kernel said nothing while the run lasted)"
_STAMP = re.compile(r"(?:<\d+>)?\[\s*(\d+)\.(\d{6})\]")


def since(text: str, t_ns: int) -> str:
    """Return the lines of `dmesg` from `t_ns` on, by the device's monotonic clock; all where they have no times.

    A sentence stands for no line at all. The two clocks differ by milliseconds, hence a second is allowed.
    """
    lines = text.splitlines()
    stamps = [_STAMP.match(line) for line in lines]
    if not any(stamps):
        return text
    kept, wanted = [], False
    for line, stamp in zip(lines, stamps, strict=True):
        if stamp is not None:
            wanted = int(stamp[1]) * 1_000_000_000 + int(stamp[2]) * 1_000 >= t_ns - 1_000_000_000
        if wanted:
            kept.append(line)
    return "\n".join(kept) or NOTHING
