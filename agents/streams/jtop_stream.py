"""Print what jtop says of this Jetson: a line of JSON per sample, the raw numbers in jtop's own units.

    python3 jtop_stream.py [--interval S] [--probe]

Runs with the Python that has jtop (3.6 and later), and in a process of its own: jtop is AGPL, and importing it makes
multiprocessing fork. Its running average of a rail is left out: it is the mean of the last two readings and of the
average before, over no known time.
"""

import argparse
import json
import os
import queue
import sys
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.managers import RemoteError

FASTEST_S, SLOWEST_S = 0.1, 1.0
PATIENCE_S = 5.0
START_S = 10.0
OLDEST_MAJOR = 4
OFFLINE_C = -256

REASONS = {
    "not_installed": (3, "jtop is not installed: run `sudo pip3 install -U jetson-stats` and reboot"),
    "too_old": (4, "this jtop is older than version 4: run `sudo pip3 install -U jetson-stats` and reboot"),
    "no_access": (5, "this user may not ask jtop: run `sudo usermod -aG jtop $USER` and log in again"),
    "not_running": (6, "the service of jtop does not run: run `sudo systemctl restart jtop.service`"),
    "mismatch": (
        7,
        "jtop and its service are of different versions: run `sudo pip3 install -U jetson-stats`, "
        "then `sudo systemctl restart jtop.service`",
    ),
    "silent": (8, "the service of jtop does not answer: run `sudo systemctl restart jtop.service`"),
}
"""Why there is no sample: a name, the exit code and what to do."""
TOLD_BY_JTOP = ("mismatch", "silent")
"""Reasons of which jtop knows more: the two versions, what went wrong."""
WORTH_WAITING = ("no_access", "not_running", "silent")
"""A service that was there and is gone may be starting again: first it makes its socket, then the group may use it."""


FAILURES = (RemoteError, EOFError, OSError, LookupError, TypeError, ValueError, AttributeError, queue.Empty)
"""What comes out of jtop's client, unwrapped, when its service goes away or is another one than it expects."""


class Refused(Exception):
    """There is no sample, for one of REASONS."""

    def __init__(self, reason, detail=""):
        code, sentence = REASONS[reason]
        super().__init__(sentence + (" (%s)" % detail if detail else ""))
        self.reason, self.code = reason, code


def main(arguments=None):
    """Print samples until nobody reads them. Returns the exit code: 0, or the one of a reason."""
    parser = argparse.ArgumentParser(description="Print what jtop says, a line of JSON per sample.")
    parser.add_argument("--interval", type=float, default=SLOWEST_S, help="seconds between samples, 0.1 to 1")
    parser.add_argument("--probe", action="store_true", help="print one sample, or why there is none, and end")
    parser.add_argument(
        "--lost", choices=WORTH_WAITING, help="there were samples, until for this reason there were none"
    )
    asked = parser.parse_args(arguments)
    interval_s = min(max(asked.interval, FASTEST_S), SLOWEST_S)
    try:
        library = load()
        if asked.probe:
            sample = next(samples(library, interval_s))
            write(dict(sample, jtop=library.__version__, python=sys.executable))
        else:
            stream(library, interval_s, asked.lost)
    except Refused as refused:
        complain(refused)
        if asked.probe:
            write({"refused": refused.reason, "message": str(refused)})
        return refused.code
    except (BrokenPipeError, KeyboardInterrupt):
        # Nobody reads any more: what Python flushes at its end needs somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def load():
    """Return the package jtop. Raises Refused."""
    try:
        import jtop
    except ImportError as error:
        raise Refused("not_installed", "%s: %s" % (sys.executable, error)) from error
    version = getattr(jtop, "__version__", "0")
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST_MAJOR:
        raise Refused("too_old", version)
    return jtop


def stream(library, interval_s, lost=None):
    """Print samples; ask again when the service was restarted or fell silent (`lost`: why). Raises Refused."""
    seen = lost is not None
    while True:
        try:
            for sample in samples(library, interval_s):
                write(sample)
                if lost:
                    complain("jtop answers again")
                seen, lost = True, None
        except Refused as refused:
            # Before the first sample, waiting would only hide from the user what is wrong.
            if not seen or refused.reason not in WORTH_WAITING:
                raise
            if refused.reason != lost:
                complain("%s; asking again" % refused)
            lost = refused.reason
        time.sleep(SLOWEST_S)
        if lost == "silent":
            begin_anew(interval_s, lost)


def begin_anew(interval_s, lost):
    """Replace this process by a fresh one.

    multiprocessing keeps the connection to a service that has ended, and hands it to every later client.
    """
    os.execv(sys.executable, [sys.executable, __file__, "--interval", str(interval_s), "--lost", lost])


def samples(library, interval_s):
    """Yield a sample whenever the service has one, until it falls silent. Raises Refused.

    jtop's own `ok` gives up after three intervals, which a busy board needs at times; and a client that waits in vain
    shows the last sample once more. The uptime in it, to 10 ms, tells a new one.
    """
    news = queue.Queue()
    client = library.jtop(interval=interval_s)
    client.attach(lambda jetson: news.put((jetson.uptime, read(jetson))))
    try:
        start(client)
        last, heard_s = None, time.monotonic()
        while client.ok(spin=True) and time.monotonic() - heard_s < PATIENCE_S:
            try:
                uptime, sample = news.get(timeout=interval_s)
            except queue.Empty:
                continue
            if uptime != last:
                last, heard_s = uptime, time.monotonic()
                yield sample
    except (library.JtopException, *FAILURES) as error:
        reason = why(error)
        raise Refused(reason, detail(error) if reason in TOLD_BY_JTOP else "") from error
    finally:
        client.close()
    raise Refused("silent")


def start(client):
    """Connect, in a thread: to a service that ended in the middle of its answer, jtop's client listens for ever."""
    failures = []

    def attempt():
        try:
            client.start()
        except Exception as error:
            failures.append(error)

    attempts = threading.Thread(target=attempt, daemon=True)
    attempts.start()
    attempts.join(START_S)
    if failures:
        raise failures[0]
    if attempts.is_alive():
        raise TimeoutError("no answer within %g s" % START_S)


def why(error):
    """Name the reason behind what jtop's client raised: it wraps what really happened in an exception of its own."""
    cause = error.__context__
    if isinstance(cause, PermissionError):
        return "no_access"
    if isinstance(cause, (FileNotFoundError, ConnectionRefusedError)):
        return "not_running"
    if isinstance(cause, (AuthenticationError, ValueError)) or "ismatch" in str(error):
        return "mismatch"
    return "silent"


def detail(error):
    """Return the first line of what was raised, without the advice that jtop adds."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return line.partition(" Please run")[0].rstrip(".")


def read(client):
    """Return a sample: what this board does not have is left out."""
    parts = {
        "rails": rails,
        "temps_c": temperatures,
        "gpus": gpus,
        "ram_kb": lambda c: numbers(c.memory["RAM"]),
        "emc": lambda c: named(c.memory["EMC"], (("val", "load_percent"), ("cur", "freq_khz"))),
        "fans": fans,
        "nvpmodel": lambda c: c.nvpmodel.name,
        "jetson_clocks": lambda c: bool(c.jetson_clocks.get_enable()),
    }
    sample = {}
    for name, part in parts.items():
        try:
            value = part(client)
        except (LookupError, TypeError, AttributeError, ValueError):
            continue
        if value or value is False:
            sample[name] = value
    return sample


def rails(client):
    """Return mV, mA and mW of each rail of the board's monitors; batteries and USB ports are no rails.

    jtop takes the rail that is the board's input out of the rails and calls it the total. A total without a name is
    its own sum of rails, and is left out.
    """
    power = client.power
    found = dict(power["rail"])
    if "name" in power["tot"]:
        found[power["tot"]["name"]] = power["tot"]
    return {
        name: named(rail, (("volt", "mv"), ("curr", "ma"), ("power", "mw")))
        for name, rail in found.items()
        if str(rail.get("type", "INA3221")).startswith("INA") and rail.get("online", True)
    }


def temperatures(client):
    """Return the degrees of each sensor that is switched on."""
    found = {name: values["temp"] for name, values in client.temperature.items()}
    return {name: value for name, value in found.items() if value != OFFLINE_C}


def gpus(client):
    """Return load and clock of each GPU."""
    return {
        name: dict(
            named(gpu.get("status", {}), (("load", "load_percent"),)),
            **named(gpu.get("freq", {}), (("cur", "freq_khz"),)),
        )
        for name, gpu in client.gpu.items()
    }


def fans(client):
    """Return duty in percent and revolutions per minute of each fan, a list of each."""
    return {name: named(fan, (("speed", "duty_percent"), ("rpm", "rpm"))) for name, fan in client.fan.items()}


def numbers(values):
    """Return the numbers among values."""
    return {name: value for name, value in values.items() if isinstance(value, (int, float))}


def named(values, names):
    """Return some of the values under names that tell their unit."""
    return {new: values[old] for old, new in names if values.get(old) is not None}


def complain(sentence):
    """Print a sentence to the user, at once: Pythons before 3.9 keep what is no terminal waiting."""
    print(sentence, file=sys.stderr, flush=True)


def write(sample):
    """Print a line of JSON at once: its arrival is its time."""
    sys.stdout.write(json.dumps(sample, sort_keys=True) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
