"""What the host knows of provisioning: pins, what lacks, what the program says, and who is refused."""

from __future__ import annotations

import configparser
import json
import subprocess
from pathlib import Path
from threading import Event

import pytest

from melt.cli.main import main
from melt.errors import UsageError
from melt.session.provision import _FIND_PYTHON, provision
from melt.targets.provision import LLAMA_CPP, ONNXRUNTIME, OTHERS, Provisioned, Said, parse_line, write_wish


def test_the_pins_are_those_of_the_extras():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    extras = config["options.extras_require"]
    # The others of an extra are for the host alone.
    assert [extras[name].split()[0] for name in ("llama", "onnx")] == [LLAMA_CPP, ONNXRUNTIME]


@pytest.mark.parametrize(
    ("found", "lacking"),
    [
        (Provisioned("3.10.12", "0.3.36", "1.23.2", "cuda"), ()),
        (Provisioned("3.8.10", "0.3.36", "1.19.2", "cuda"), ()),
        (Provisioned("3.10.12", "0.3.35", None, None), (LLAMA_CPP, ONNXRUNTIME)),
        (Provisioned("3.8.10", "0.3.36", "1.23.2", "cpu"), ("onnxruntime==1.19.2",)),
        (Provisioned("3.12.1", None, "1.23.2", None), (LLAMA_CPP,)),
    ],
)
def test_what_an_environment_lacks(found, lacking):
    assert found.lacking == lacking


def test_lines_of_the_program():
    assert parse_line(b'{"event": "progress", "done": 3, "total": 9}') == Said("progress", {"done": 3, "total": 9})
    assert [parse_line(line) for line in (b"", b"no json", b"[]", b"7", b'{"done": 3}', b"\xff")] == [None] * 6


def test_a_wish_says_everything():
    asked = json.loads(write_wish("/home/lab/.melt", "/home/lab/.melt/jobs/provision-1", gpu=False, fresh=True))
    assert asked == {
        "root": "/home/lab/.melt",
        "job": "/home/lab/.melt/jobs/provision-1",
        "llama_cpp": LLAMA_CPP,
        "others": list(OTHERS),
        "gpu": False,
        "fresh": True,
    }


def test_this_machine_is_not_provisioned(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"pip install 'melt\[llama,onnx\]'"):
        provision("local", stop=Event())
    assert not list(tmp_path.iterdir())


def test_phones_are_refused_before_they_are_reached(capsys):
    assert main(["provision", "adb:R5CT1234"]) == 2
    said = capsys.readouterr()
    assert "melt build runner" in said.err
    assert not said.out


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no python3 is here where a Mac has its stub")
@pytest.mark.parametrize("has_tools", [True, False])
def test_the_stub_of_a_mac_without_its_tools_is_not_called(has_tools: bool, tmp_path: Path):
    (tmp_path / "xcode-select").write_text(f"#!/bin/sh\nexit {0 if has_tools else 2}\n")
    (tmp_path / "xcode-select").chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(("sh", "-c", _FIND_PYTHON), env=path, capture_output=True, text=True, check=False)
    assert (done.stdout == "/usr/bin/python3\n") is has_tools
