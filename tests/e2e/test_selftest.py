"""`melt selftest` as a process: on this machine, over a real sshd, on a virtual phone and board; where nobody is."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from melt_rig import Melt
from native_runners import build
from virtual.jetson import testing as jetson
from virtual.phone.testing import CLIENTS, adb_server, playing
from virtual.sshd import Sshd

pytestmark = pytest.mark.slow  # a device is watched at rest and under load

BRIEF = ("--seconds", "2")
_UNDER_LOAD = {"rest and burst", "a short run", "cost of watching"}
_LATE = re.compile(r"Hz came|nothing came for")
"""Steps, and sentences, that this machine's other work may cause while tests run side by side."""


def report_of(melt: Melt, *words: str, failing: set[str] | None = None) -> dict[str, Any]:
    """Run a self-test and return its report; the steps named must have failed, of the others only what load excuses."""
    failing = failing or set()
    done = melt("selftest", *words, *BRIEF, "--json", check=None, timeout_s=300)
    found: dict[str, Any] = json.loads(done.stdout)
    failed = {step["name"]: step["finding"]["said"] for step in found["steps"] if step["finding"]["status"] == "fail"}
    unexpected = {
        name: said for name, said in failed.items() if name not in failing | _UNDER_LOAD and not _LATE.search(said)
    }
    assert not unexpected
    assert failing <= failed.keys()
    assert done.returncode == (1 if failed else 0)
    return found


def steps(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{step['room']}: {step['name']}": step["finding"] for step in found["steps"]}


def test_this_machine(melt: Melt, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    found = report_of(melt, "local", "-o", str(report))
    seen = steps(found)
    assert seen["agent: worker killed"]["status"] == "pass"
    assert seen["agent: link lost in mid-job"]["figures"]["journal_bytes"] > 500
    assert seen["memory: a known buffer"]["figures"]["rss_bytes"] > 120e6
    assert "ok" in seen["run: a short run"]["said"]
    text = report.read_text()
    assert "## link: round trip" in text
    assert str(Path.home()) not in text or str(Path.home()) == "/root"
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", text)
    assert not melt.job_dirs()
    assert not list((melt.state / "melt" / "device" / "selftest").iterdir())


def test_the_summary_is_a_table(melt: Melt) -> None:
    done = melt("selftest", *BRIEF, check=None, timeout_s=300)
    assert "worker killed" in done.stdout
    assert re.search(r"\d+ steps: \d+ pass", done.stdout)
    assert "melt: channels: sampling" in done.stderr


def test_an_interrupted_one_leaves_the_device_at_rest(melt: Melt) -> None:
    process = melt.start("selftest", "local", "--seconds", "60")
    assert process.stderr is not None
    for line in process.stderr:
        if "channels: sampling" in line:
            break
    (folder,) = (melt.state / "melt" / "device" / "selftest").iterdir()
    deadline_s = time.monotonic() + 30
    while not (folder / "channels" / "journal").exists():
        assert time.monotonic() < deadline_s, "no job was started"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not folder.exists()
    assert not subprocess.run(["pgrep", "-f", f"melt-agent.*{folder}"], capture_output=True).stdout


def test_over_ssh(melt: Melt, tmp_path: Path, give_python: Callable[[Path], None]) -> None:
    home = tmp_path / "home"
    give_python(home)
    with Sshd(tmp_path / "ssh", home=home) as server:
        melt.env.update(server.environment)
        found = report_of(melt, "ssh:board")
    seen = steps(found)
    assert seen["link: deadline"]["status"] == "pass"
    assert seen["link: push and pull"]["figures"]["push_bytes_per_s"] > 1e5
    assert "board" not in json.dumps(found["selector"])


def test_a_start_up_file_that_prints_does_no_harm(
    melt: Melt, tmp_path: Path, give_python: Callable[[Path], None]
) -> None:
    home = tmp_path / "home"
    give_python(home)
    (home / ".bashrc").write_text('echo "welcome"; echo "tput: no terminal" >&2\n')
    with Sshd(tmp_path / "ssh", home=home) as server:
        melt.env.update(server.environment)
        found = report_of(melt, "ssh:board")
    assert steps(found)["link: streams and exit code"]["status"] == "pass"


def test_a_host_that_is_not_there_fails_its_first_step(melt: Melt, tmp_path: Path) -> None:
    with Sshd(tmp_path / "ssh") as server:
        melt.env.update(server.environment)
    found = report_of(melt, "ssh:board", failing={"system"})
    assert len(found["steps"]) == 1
    assert found["device"] is None


@pytest.mark.native
@pytest.mark.timeout(1800)
def test_a_phone(melt: Melt) -> None:
    build("android-arm64")
    with adb_server(CLIENTS[0]) as server, playing("pixel-8") as phone:
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        server.connect(phone.address)
        found = report_of(melt, phone.address, failing=set())
    seen = steps(found)
    assert seen["link: signal"]["status"] == "pass"
    assert seen["agent: worker killed"]["status"] == "pass"
    assert any(name.startswith("programs: ") for name in seen)
    serials = re.findall(r"serialno\]: \[([^\]]+)\]", json.dumps(found["snapshot"]))
    assert all(serial.startswith("<") for serial in serials)


def test_a_board(melt: Melt, tmp_path: Path) -> None:
    with jetson.playing("orin-nano-jp6", tmp_path / "board") as board:
        melt.env.update(board.environment)
        found = report_of(melt, board.selector)
        serial = board.profile.serial
    seen = steps(found)
    assert seen["programs: jtop"]["figures"]["rows"] > 2
    assert seen["channels: rails"]["status"] == "pass"
    assert "VDD_IN" in seen["energy: rest and burst"]["said"]
    assert serial not in json.dumps(found)
