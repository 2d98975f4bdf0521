"""Play a phone at the terminal: `python -m tests.virtual.phone --profile pixel-8`, and inject faults into it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from . import control, requirements
from .paths import control_socket
from .profiles import BadProfile, names
from .supervisor import Options, Supervisor

_HELP = "one of: drop, freeze, thaw, throttle, latency, drop_after, disk_full, disk_free, reboot, unauthorized, \
authorize, kill, ramp, battery, plug, screen, set_sysfs, state"


def main(arguments: list[str]) -> int:
    """Run one of the three: a phone, `ctl`, or what the library calls. Return an exit status."""
    match arguments:
        case ["check"]:
            requirements.check()
            return 0
        case ["supervise", text]:
            return _supervise(Options(**json.loads(text)))
        case ["ctl", *rest]:
            return _ctl(rest)
    return _play(arguments)


def _supervise(options: Options) -> int:
    try:
        return Supervisor(options, _print_json, stop_fd=sys.stdin.fileno()).run()
    except (BadProfile, OSError) as error:
        _print_json({"event": "failed", "reason": str(error)})
        return 1


def _play(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.virtual.phone", description=__doc__)
    parser.add_argument("--profile", default="pixel-8", help=f"{', '.join(names())}, or a path (default: pixel-8)")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--data-mb", type=int, default=1024, help="size of /data in MB, taken from RAM (default: 1024)")
    parser.add_argument("--serial", help="what ro.serialno says")
    parser.add_argument("--boot-s", type=float, default=3.0, help="how long a reboot takes (default: 3)")
    parser.add_argument("--adbd", help="a real adb daemon to run instead of the emulated one")
    options = Options(**vars(parser.parse_args(arguments)))
    try:
        requirements.require()
        supervisor = Supervisor(options, _print_line)
    except (requirements.Unavailable, BadProfile, OSError) as error:
        print(f"virtual phone: {error}", file=sys.stderr)
        return 2
    address = f"127.0.0.1:{supervisor.port}"
    print(f"adb connect {address}\nmelt doctor {address}", flush=True)
    return supervisor.run()


def _ctl(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.virtual.phone ctl", description="Inject a fault.")
    parser.add_argument("port", type=int, help="of the phone")
    parser.add_argument("fault", help=_HELP)
    parser.add_argument("argument", nargs="*", help="NAME=VALUE, values as in JSON: ramp temperature_c=45 seconds=20")
    parsed = parser.parse_args(arguments)
    values = dict(_pair(text, parser) for text in parsed.argument)
    try:
        answer = control.send(control_socket(parsed.port), parsed.fault, **values)
    except control.ControlError as error:
        print(f"virtual phone: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


def _pair(text: str, parser: argparse.ArgumentParser) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        parser.error(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _print_json(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _print_line(event: dict[str, Any]) -> None:
    fields = " ".join(f"{name}={value}" for name, value in event.items() if name not in ("t_s", "event"))
    print(f"{time.strftime('%H:%M:%S')} {event['event']} {fields}".rstrip(), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
