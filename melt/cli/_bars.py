"""Progress of what takes time on this machine: models that are fetched and quantized, evaluations."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.models.files import Progress


@contextmanager
def progress_bars(*, tenths: bool = False) -> Iterator[Progress]:
    """Show on stderr what takes time: a bar on a terminal, elsewhere a line for each thing begun, or for each tenth."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    console = Console(stderr=True)
    bars_of: dict[str, TaskID] = {}
    said: dict[str, int] = {}
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:

        def progress(what: str, done: int, total: int) -> None:
            if what not in bars_of:
                bars_of[what] = bars.add_task(escape(what), total=None)
            bars.update(bars_of[what], completed=done, total=total or None)
            in_tenths = tenths and total > 0
            tenth = done * 10 // total if in_tenths else 0
            if not console.is_terminal and said.get(what) != tenth:
                said[what] = tenth
                print(f"melt: {what}" + (f": {done * 100 // total} %" if in_tenths else ""), file=sys.stderr)

        yield progress
