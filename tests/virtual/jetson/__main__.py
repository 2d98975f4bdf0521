"""Play a board at the terminal: `python -m tests.virtual.jetson --profile orin-nano-jp6`; faults are typed at it."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..phone.requirements import Unavailable
from . import requirements
from .enter import enter
from .handle import BoardFailed, VirtualJetson
from .jtop import OTHER, SERVICE
from .profiles import BadProfile, names
from .supervisor import Options, Supervisor

_COMMANDS = "state, heat C, cool, drop, reboot, stop_jtop, start_jtop, fill_disk [KB], free_disk; Ctrl-D ends it"


def main(arguments: list[str]) -> int:
    """Run a board, or what the library calls. Return an exit status."""
    match arguments:
        case ["check"]:
            requirements.check()
            return 0
        case ["supervise", text]:
            return _supervise(Options(**json.loads(text)))
        case ["enter", file, *argv]:
            return enter(file, argv)
    return _play(arguments)


def _supervise(options: Options) -> int:
    try:
        return Supervisor(options).run()
    except (BadProfile, OSError) as error:
        print(json.dumps({"event": "failed", "reason": str(error)}), flush=True)
        return 1


def _play(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.virtual.jetson", description=__doc__, epilog=_COMMANDS)
    parser.add_argument("--profile", default="orin-nano-jp6", help=f"{', '.join(names())} (default: orin-nano-jp6)")
    parser.add_argument("--home-mb", type=int, default=2048, help="size of the user's home in MB, taken from RAM")
    parser.add_argument("--sudo", nargs="*", default=["nvpmodel", "jetson_clocks"], help="commands without a password")
    parser.add_argument("--no-sudo", action="store_true", help="no sudo at all")
    parser.add_argument("--groups", nargs="*", default=["jtop"], help="groups of the user (default: jtop)")
    parser.add_argument("--jtop", default=SERVICE, help=f"version of the service: {SERVICE}, {OTHER}, none")
    parser.add_argument("--noise", action="store_true", help="a ~/.bashrc that prints")
    parser.add_argument("--locale", help="what ~/.bashrc sets LANG to")
    parser.add_argument("--bare", action="store_true", help="no engines in ~/.melt/venv")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="virtual-jetson-") as folder:
        try:
            board = VirtualJetson(
                chosen.profile,
                Path(folder),
                user_groups=chosen.groups,
                sudo=None if chosen.no_sudo else chosen.sudo,
                jtop=None if chosen.jtop == "none" else chosen.jtop,
                home_mb=chosen.home_mb,
                noise=chosen.noise,
                locale=chosen.locale,
                provisioned=not chosen.bare,
            )
            with board:
                for name, value in board.environment.items():
                    print(f"export {name}={shlex.quote(value)}")
                print(f"melt doctor {board.selector}\nssh -F {board.ssh.config} {board.ssh.alias}", flush=True)
                print(f"type: {_COMMANDS}", file=sys.stderr)
                _obey(board)
        except (Unavailable, BadProfile, BoardFailed, OSError) as error:
            print(f"virtual Jetson: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            pass
    return 0


def _obey(board: VirtualJetson) -> None:
    verbs: dict[str, Callable[..., object]] = {
        "state": lambda: print(json.dumps(board.state()), flush=True),
        "heat": lambda degrees: board.heat(float(degrees)),
        "cool": lambda: board.heat(None),
        "drop": board.drop_link,
        "reboot": board.reboot,
        "stop_jtop": board.stop_jtop,
        "start_jtop": board.start_jtop,
        "fill_disk": lambda leave_kb="0": board.fill_disk(int(leave_kb)),
        "free_disk": board.free_disk,
    }
    for line in sys.stdin:
        name, *words = line.split() or [""]
        try:
            verbs[name](*words)
        except (KeyError, TypeError, ValueError, BoardFailed) as error:
            print(f"{error}; type: {_COMMANDS}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
