"""The program that asks jtop, against a stand-in of jtop's public interface: the real one needs a board, or one played.

What the stand-in raises, and wrapped in what, is what clients of versions 4 to 7 raise.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from melt._layout import agents_dir

PROGRAM = agents_dir() / "streams" / "jtop_stream.py"

POWER = {
    "rail": {
        "VDD_SOC": {"type": "INA3221", "online": True, "volt": 5064, "curr": 288, "power": 1458, "avg": 1399},
        "ucsi-source-psy": {"type": "USB", "online": False, "volt": 5000, "curr": 0, "power": 0, "avg": 0},
    },
    "tot": {"name": "VDD_IN", "type": "INA3221", "online": True, "volt": 5064, "curr": 920, "power": 4658, "avg": 4000},
}


class JtopException(Exception):
    pass


def said(words: str, cause: Exception | None = None) -> Callable[[], None]:
    """Make what a client does at its start: raise its own exception while it handles the system's."""

    def start() -> None:
        try:
            if cause is not None:
                raise cause
        except type(cause or OSError):
            # As jtop does, without `from`: the cause is the context.
            raise JtopException(words)  # noqa: B904
        raise JtopException(words)

    return start


DENIED = said("I can't access jtop.service.\nPlease logout or reboot this board.", PermissionError(13, "denied"))
GONE = said("The jtop.service is not active. Please run:\nsudo jtop --install-service", FileNotFoundError(2, "none"))
REFUSED = said("The jtop.service is not active.", ConnectionRefusedError(111, "refused"))
OTHER = said("Mismatch version jtop service: [7.1.0] and client: [7.2.2]. Please run:\n\nsudo jtop --install-service")
PYTHONS = said("Mismatch of Python versions between library and service", ValueError("unsupported pickle protocol: 5"))


class Client:
    """A client that gives samples, each twice as when one is late, and then falls silent or loses its service."""

    def __init__(self, samples: int, lost: Exception | None = None) -> None:
        self._samples, self._lost = samples, lost
        self._asked = 0
        self.uptime = timedelta(seconds=100)
        self._observers: list[Callable[[Client], None]] = []
        self.closed = False
        self.power = POWER
        self.temperature = {"cpu": {"temp": 47.8, "online": True}, "gpu": {"temp": -256, "online": False}}
        self.gpu = {"gpu": {"status": {"load": 42.3, "railgate": False}, "freq": {"cur": 306000, "GPC": [305000]}}}
        self.memory = {
            "RAM": {"tot": 7803096, "used": 3000, "shared": 812404, "shared_label": "Shared"},
            "EMC": {"cur": 2133000, "max": 3199000, "val": 3, "online": True},
        }
        self.fan = {"pwmfan": {"speed": [25.88], "rpm": [1530], "profile": "quiet"}}
        self.nvpmodel: Any = SimpleNamespace(name="25W")
        self.jetson_clocks: Any = SimpleNamespace(get_enable=lambda: False)

    def attach(self, observer: Callable[[Client], None]) -> None:
        self._observers.append(observer)

    def start(self) -> None:
        for _ in range(self._samples):
            self.uptime += timedelta(milliseconds=10)
            for observer in [*self._observers, *self._observers]:
                observer(self)

    def ok(self, spin: bool) -> bool:
        assert spin
        self._asked += 1
        if self._asked > 2 * self._samples and self._lost is not None:
            raise self._lost
        return True

    def close(self) -> None:
        self.closed = True


def library(*connections: Client | Callable[[], None]) -> Any:
    """Return a stand-in of the package, whose clients do one after the other what is asked."""
    coming: Iterator[Client | Callable[[], None]] = iter(connections)
    clients: list[Client] = []

    def connect(interval: float) -> Client:
        assert 0.1 <= interval <= 1.0
        what = next(coming)
        client = what if isinstance(what, Client) else Client(0)
        if not isinstance(what, Client):
            client.start = what
        clients.append(client)
        return client

    return SimpleNamespace(jtop=connect, JtopException=JtopException, __version__="7.2.2", clients=clients)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("jtop_stream", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(module.os, "execv", lambda path, argv: setattr(module, "anew", argv))
    return module


def run(program: ModuleType, monkeypatch: pytest.MonkeyPatch, stand_in: Any, *arguments: str) -> int:
    monkeypatch.setitem(sys.modules, "jtop", stand_in)
    code = program.main(["--interval", "0.1", *arguments])
    assert isinstance(code, int)
    assert all(client.closed for client in stand_in.clients)
    return code


def test_a_sample_holds_raw_numbers_and_no_average(program, monkeypatch, capsys) -> None:
    assert run(program, monkeypatch, library(Client(5)), "--probe") == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "jtop": "7.2.2",
        "python": sys.executable,
        "rails": {
            "VDD_SOC": {"mv": 5064, "ma": 288, "mw": 1458},
            "VDD_IN": {"mv": 5064, "ma": 920, "mw": 4658},
        },
        "temps_c": {"cpu": 47.8},
        "gpus": {"gpu": {"load_percent": 42.3, "freq_khz": 306000}},
        "ram_kb": {"tot": 7803096, "used": 3000, "shared": 812404},
        "emc": {"load_percent": 3, "freq_khz": 2133000},
        "fans": {"pwmfan": {"duty_percent": [25.88], "rpm": [1530]}},
        "nvpmodel": "25W",
        "jetson_clocks": False,
    }


def test_jtops_own_sum_of_rails_is_no_rail(program) -> None:
    client = Client(1)
    client.power = {"rail": {"CPU": {"volt": 5000, "curr": 100, "power": 500}}, "tot": {"power": 500, "avg": 400}}
    assert program.read(client)["rails"] == {"CPU": {"mv": 5000, "ma": 100, "mw": 500}}


def test_what_a_board_does_not_have_is_left_out(program) -> None:
    client = Client(1)
    client.power, client.fan, client.gpu, client.temperature = {}, {}, {}, {}
    client.memory = {"RAM": {"tot": 1}, "EMC": {}}
    client.nvpmodel = client.jetson_clocks = None
    assert program.read(client) == {"ram_kb": {"tot": 1}}


@pytest.mark.parametrize(
    ("start", "reason", "code", "words"),
    [
        (DENIED, "no_access", 5, "sudo usermod -aG jtop $USER"),
        (GONE, "not_running", 6, "sudo systemctl restart jtop.service"),
        (REFUSED, "not_running", 6, "sudo systemctl restart jtop.service"),
        (OTHER, "mismatch", 7, "(Mismatch version jtop service: [7.1.0] and client: [7.2.2])"),
        (PYTHONS, "mismatch", 7, "(Mismatch of Python versions between library and service)"),
        (said("Error connection"), "silent", 8, "does not answer"),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--probe",)])
def test_each_refusal_is_one_sentence_and_a_code(program, monkeypatch, capsys, start, reason, code, words, arguments):
    assert run(program, monkeypatch, library(start), *arguments) == code
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert words in err
    assert "jtop --install-service" not in err
    if arguments:
        assert json.loads(out) == {"refused": reason, "message": err.rstrip("\n")}
    else:
        assert out == ""


def test_an_old_jtop_is_told_to_be_renewed(program, monkeypatch, capsys) -> None:
    stand_in = library()
    stand_in.__version__ = "3.1.4"
    assert run(program, monkeypatch, stand_in) == 4
    assert capsys.readouterr().err.startswith("this jtop is older than version 4: run `sudo pip3 install -U")


@pytest.mark.parametrize(
    "lost", [None, JtopException("Lost connection with jtop server"), EOFError(), BrokenPipeError(32, "x")]
)
def test_a_service_that_comes_back_is_asked_again(program, monkeypatch, capsys, lost) -> None:
    stand_in = library(Client(2, lost), GONE, GONE, REFUSED, DENIED, Client(3), OTHER)
    # It came back as another version in the end: no waiting helps then.
    assert run(program, monkeypatch, stand_in) == 7
    out, err = capsys.readouterr()
    assert out.count("\n") == 5
    sentences = err.splitlines()
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "the service of jtop does not answer",
        "the service of jtop does not run",
        "this user may not ask jtop",
        "jtop answers again",
        "the service of jtop does not answer",
        "jtop and its service are of different versions",
    ]
    assert all(sentence.endswith("; asking again") for sentence in (*sentences[:3], sentences[4]))
    # multiprocessing hands the connection that was lost to every later client of the same process.
    assert program.anew == [sys.executable, str(PROGRAM), "--interval", "0.1", "--lost", "silent"]


def test_a_process_that_began_anew_waits_and_does_not_repeat_itself(program, monkeypatch, capsys) -> None:
    assert run(program, monkeypatch, library(Client(0), GONE, Client(1), OTHER), "--lost", "silent") == 7
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert [sentence.partition(":")[0] for sentence in err.splitlines()] == [
        "the service of jtop does not run",
        "jtop answers again",
        "the service of jtop does not answer",
        "jtop and its service are of different versions",
    ]


def test_a_service_that_never_answers_is_not_waited_for(program, monkeypatch, capsys) -> None:
    monkeypatch.setattr(program, "START_S", 0.05)
    never = threading.Event()
    assert run(program, monkeypatch, library(never.wait), "--probe") == 8
    never.set()
    assert "does not answer" in capsys.readouterr().err


def test_a_service_that_never_gave_a_sample_is_not_waited_for(program, monkeypatch, capsys) -> None:
    assert run(program, monkeypatch, library(Client(0), Client(1))) == 8
    assert capsys.readouterr().out == ""


def test_without_jtop_it_says_how_to_get_it(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(PROGRAM), "--probe"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 3
    assert done.stderr.startswith("jtop is not installed: run `sudo pip3 install -U jetson-stats` and reboot")
    assert json.loads(done.stdout)["refused"] == "not_installed"


def test_it_ends_when_nobody_reads_any_more(tmp_path) -> None:
    """The agent may have been killed: its streams must not live on."""
    (tmp_path / "jtop.py").write_text(
        textwrap.dedent(
            """
            __version__ = "4.3.2"
            class JtopException(Exception): pass
            class jtop:
                power, temperature, gpu, memory, fan = {}, {"cpu": {"temp": 40.0}}, {}, {}, {}
                nvpmodel = jetson_clocks = None
                def __init__(self, interval): pass
                def attach(self, observer): self.observer = observer
                def start(self): self.uptime = 0
                def ok(self, spin):
                    self.uptime += 1
                    self.observer(self)
                    return True
                def close(self): pass
            """
        )
    )
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), "--interval", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert json.loads(running.stdout.readline()) == {"temps_c": {"cpu": 40.0}}
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(timeout=10) == 0
