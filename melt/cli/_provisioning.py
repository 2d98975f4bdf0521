"""Show hosts being provisioned on stderr: a bar for each on a terminal, one plain line per step everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from melt.targets.provision import Said

_LINE_EVERY_PERCENT = 10


class View(Protocol):
    """Where it is shown; threads may call it."""

    def see(self, host: str, said: Said) -> None:
        """Show what the program on a host said."""

    def say(self, host: str, text: str) -> None:
        """Show a sentence."""


@contextmanager
def provisioning(hosts: Sequence[str]) -> Iterator[View]:
    """Yield a view of these hosts."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[activity]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bars:
        yield _Bars(bars, hosts)


class _Lines:
    """For a log: nothing moves, and of what counts only each tenth is said."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tenths: dict[str, int] = {}

    def see(self, host: str, said: Said) -> None:
        data = said.data
        if said.event == "step":
            self._tenths[host] = 0
            self.say(host, f"[{data['number']}/{data['of']}] {data['what']}")
        elif said.event == "activity":
            self.say(host, data["what"])
        elif said.event == "note":
            self.say(host, f"note: {data['message']}")
        elif said.event == "progress":
            tenth = 100 * data["done"] // data["total"] // _LINE_EVERY_PERCENT
            if tenth > self._tenths.get(host, 0):
                self._tenths[host] = tenth
                self.say(host, f"{data['done']} of {data['total']} built")

    def say(self, host: str, text: str) -> None:
        with self._lock:
            print(f"{host}: {text}", file=sys.stderr, flush=True)


class _Bars:
    """For a terminal."""

    def __init__(self, bars: Progress, hosts: Sequence[str]) -> None:
        self._bars = bars
        self._tasks = {
            host: bars.add_task(escape(f"{host}: connecting"), total=None, activity="") for host in dict.fromkeys(hosts)
        }

    def see(self, host: str, said: Said) -> None:
        task, data = self._tasks[host], said.data
        if said.event == "step":
            what = f"{host}: [{data['number']}/{data['of']}] {data['what']}"
            self._bars.reset(task, start=True, total=None, description=escape(what), activity="")
        elif said.event == "activity":
            self._bars.update(task, activity=escape(data["what"][:60]))
        elif said.event == "note":
            self.say(host, data["message"])
        elif said.event == "progress":
            counted = f"{data['done']}/{data['total']}"
            self._bars.update(task, completed=data["done"], total=data["total"], activity=counted)

    def say(self, host: str, text: str) -> None:
        self._bars.console.print(f"[yellow]note[/] {escape(host)}: {escape(text)}", highlight=False)
