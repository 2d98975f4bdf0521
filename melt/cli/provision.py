"""`melt provision`: give boards and Macs a Python with the engines in it, built for their GPU."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.errors import MeltError
    from melt.targets.provision import Provisioned

from melt.cli._interrupt import stop_on_interrupt

NAME = "provision"
HELP = "install the engines on boards and Macs, built for their GPU"

_HEAR_EVERY_S = 1.0
"""A Ctrl-C that comes in the moment in which the main thread begins to wait is heard when it has waited."""
_HEADERS = ("host", "state", "Python", "llama-cpp-python", "built for", "onnxruntime")
_EPILOG = """\
Makes the virtual environment ~/.melt/venv with the pinned llama-cpp-python (CUDA on a Jetson, Metal on a Mac) and
onnxruntime; nothing outside ~/.melt is touched, and sudo is never used. Building with CUDA takes a board up to an hour.
It goes on there when the link drops or melt is killed: the same command follows it again. Once all is as wanted the
command only looks. Proxies and indexes are those of pip's own configuration on the host.

exit status: 0 all hosts are as wanted, 1 one is not, 2 wrong usage
"""


@dataclass(frozen=True, slots=True)
class _Host:
    """What became of one host: what it has, or why not."""

    name: str
    found: Provisioned | None = None
    changed: bool = False
    error: MeltError | None = None

    @property
    def fine(self) -> bool:
        return self.error is None and self.found is not None and not self.found.lacking

    @property
    def state(self) -> str:
        if self.error is not None:
            return "failed"
        if self.found is None:
            return "not provisioned"
        if self.found.lacking:
            return f"lacks {', '.join(self.found.lacking)}"
        return "provisioned" if self.changed else "as wanted"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "hosts", metavar="HOST", nargs="+", help="as `ssh` takes it: an alias of ~/.ssh/config, HOST or USER@HOST"
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--check", action="store_true", help="only tell what is there; exit 1 where something lacks")
    ways.add_argument("--fresh", action="store_true", help="remove what is there and make it anew")
    parser.add_argument("--cpu", action="store_true", help="build llama.cpp for the CPU alone")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Provision all hosts side by side; what they have goes to stdout, progress to stderr."""
    from melt.errors import UsageError

    selectors = list(dict.fromkeys(_selector(host) for host in args.hosts))
    results = _checked(selectors) if args.check else _provisioned(selectors, gpu=not args.cpu, fresh=args.fresh)
    for result in results:
        if result.error is not None:
            _complain(result.error)
    errors = [result.error for result in results if result.error is not None]
    if len(errors) < len(results) or not all(isinstance(error, UsageError) for error in errors):
        _write(results, args.output)
    if errors and all(isinstance(error, UsageError) for error in errors):
        return UsageError.exit_code
    return 0 if all(result.fine for result in results) else 1


def _selector(host: str) -> str:
    return host if host == "local" or host.startswith(("ssh:", "adb:")) else f"ssh:{host}"


def _checked(selectors: list[str]) -> list[_Host]:
    from melt.session.provision import check

    return _side_by_side(selectors, lambda selector: _Host(selector, check(selector)))


def _provisioned(selectors: list[str], *, gpu: bool, fresh: bool) -> list[_Host]:
    from melt.cli._provisioning import provisioning
    from melt.session.provision import provision

    with stop_on_interrupt("stopping it on the hosts") as stop, provisioning(selectors) as view:

        def work(selector: str) -> _Host:
            result = provision(
                selector,
                gpu=gpu,
                fresh=fresh,
                see=lambda said: view.see(selector, said),
                say=lambda text: view.say(selector, text),
                stop=stop,
            )
            return _Host(selector, result.found, result.changed)

        return _side_by_side(selectors, work)


def _side_by_side(selectors: list[str], work: Callable[[str], _Host]) -> list[_Host]:
    from melt.errors import MeltError

    def guarded(selector: str) -> _Host:
        try:
            return work(selector)
        except MeltError as error:
            return _Host(selector, error=error)

    def settle(future: Future[_Host], selector: str) -> None:
        try:
            future.set_result(guarded(selector))
        except BaseException as defect:  # noqa: BLE001 - raised again on the thread that waits
            future.set_exception(defect)

    futures: list[Future[_Host]] = []
    for selector in selectors:
        futures.append(Future())
        # Daemons: a second Ctrl-C leaves at once, and what goes on on the hosts is followed by the next melt.
        Thread(target=settle, args=(futures[-1], selector), daemon=True).start()
    while wait(futures, _HEAR_EVERY_S).not_done:
        pass
    return [future.result() for future in futures]


def _complain(error: MeltError) -> None:
    from melt.session.provision import ProvisionError

    if isinstance(error, ProvisionError):
        for line in error.tail:
            print(f"  {line}", file=sys.stderr)
        if error.tail and error.log:
            print(f"melt: the whole log lies there in {error.log}", file=sys.stderr)
    print(f"melt: {error}", file=sys.stderr)


def _write(results: list[_Host], fmt: str) -> None:
    if fmt == "json":
        print(json.dumps([_document(result) for result in results], indent=2, ensure_ascii=False))
        return
    from melt.report.table import render_table

    rows = [(result.name, result.state, *_columns(result.found)) for result in results]
    sys.stdout.write(render_table(None, _HEADERS, rows, "table"))


def _columns(found: Provisioned | None) -> tuple[str, ...]:
    if found is None:
        return ("-",) * 4
    return tuple(
        value or "-" for value in (found.python, found.llama_cpp_version, found.backend, found.onnxruntime_version)
    )


def _document(result: _Host) -> dict[str, object]:
    return {
        "host": result.name,
        "state": "lacking" if result.state.startswith("lacks") else result.state,
        "changed": result.changed,
        "found": None if result.found is None else asdict(result.found),
        "lacking": None if result.found is None else list(result.found.lacking),
        "error": None if result.error is None else str(result.error),
    }
