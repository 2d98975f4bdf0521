"""`--plot`: what stdout can show of a drawing."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.report.plot import Style


def style_of_stdout() -> Style:
    """Find out what stdout can show: a file or a pipe gets no colour, a dumb terminal no more than ASCII."""
    from melt.report.plot import Style

    dumb = os.environ.get("TERM", "dumb") in ("", "dumb", "unknown")
    terminal = sys.stdout.isatty()
    return Style(
        width=shutil.get_terminal_size().columns,
        colour=terminal and not dumb and not os.environ.get("NO_COLOR"),
        unicode=not (terminal and dumb) and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8",
    )
