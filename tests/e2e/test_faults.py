"""Whatever is killed in mid-run, and whenever: one clear sentence, and nothing that was collected is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from melt_rig import LONG, SMALL, TINY, Melt

pytestmark = pytest.mark.slow

Wait = Callable[..., object]


def _spooled(melt: Melt) -> list[Path]:
    """Journals that have begun to come home."""
    return [p for p in melt.store.glob("spool/*/journal") if p.stat().st_size > 2000]


def _pids(melt: Melt) -> dict[str, int]:
    """Process numbers of the job under way, by role, read from /proc."""
    (job,) = melt.job_dirs()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if str(job).encode() not in b"\0".join(words):
            continue
        if b"melt-agent" in words[0] and b"start" in words:
            found["guardian" if "guardian" not in found and parent == "1" else "worker"] = int(entry.name)
        elif words[-2:-1] and words[-2].endswith(b"runner.json"):
            found["runner"] = int(entry.name)
    return found


def test_interrupted_then_resumed(melt: Melt, wait_for: Wait) -> None:
    process = melt.start("run", *LONG, "--quant", "q8_0,q4_0")
    wait_for("the first run to be under way", lambda: _spooled(melt))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "melt resume" in stderr
    assert "Traceback" not in stderr
    assert [run["outcome"] for run in melt.runs()] == ["aborted"]


def _sweep(melt: Melt) -> dict[str, Any]:
    (found,) = json.loads(melt.here("sweeps", "last", "-o", "json").stdout)
    return dict(found)


def test_a_resumed_sweep_ends_well_although_a_run_was_aborted(melt: Melt, wait_for: Wait) -> None:
    process = melt.start("run", *TINY, "--quant", "q8_0,q4_0", "--workload", "tg128 for 3s", "-t", "1", "-r", "1")
    wait_for("the first run to be under way", lambda: _spooled(melt))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert [run["outcome"] for run in melt.runs()] == ["aborted"]
    melt("resume")
    assert sorted(run["outcome"] for run in melt.runs()) == ["aborted", "ok", "ok"]


def test_resume_runs_only_what_is_missing(melt: Melt, wait_for: Wait) -> None:
    process = melt.start("run", *SMALL, "--quant", "q8_0,q4_0,f16", "--sessions", "3")
    wait_for("two published runs", lambda: len(list(melt.store.glob("traces/*"))) >= 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {run["run_id"] for run in melt.runs()}
    assert _sweep(melt)["state"] == "to resume"
    said = melt("resume").stderr
    found = re.search(r"goes on: (\d+) of 18 runs kept(?:, (\d+) runs? collected just now)?, (\d+) left", said)
    assert found is not None, said
    kept, collected, left = (int(number or 0) for number in found.groups())
    assert (kept, kept + left) == (len(before) + collected, 18)
    assert (_sweep(melt)["state"], _sweep(melt)["done"]) == ("complete", 18)
    after = melt.runs()
    assert before <= {run["run_id"] for run in after}
    assert len(after) == 18
    assert {run["outcome"] for run in after} == {"ok"}
    assert melt.here("store", "verify").returncode == 0


def test_host_killed_while_the_run_goes_on(melt: Melt, wait_for: Wait) -> None:
    process = melt.start("run", "--model", "tiny-pydoc", "--quant", "q8_0", "--workload", "tg128 for 3s", "-r", "1")
    wait_for("the run to be under way", lambda: _spooled(melt))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = melt("resume")
    assert "earlier melt" in done.stderr
    (run,) = melt.runs()
    assert run["outcome"] == "ok", "the run went on without its host and came home whole"


@pytest.mark.parametrize("victim", ["runner", "worker"])
def test_something_on_the_device_is_killed(melt: Melt, wait_for: Wait, victim: str) -> None:
    process = melt.start("run", *LONG, "--quant", "q8_0")
    wait_for("the run to be under way", lambda: _spooled(melt))
    pids = wait_for("its processes", lambda: found if len(found := _pids(melt)) == 3 else None)
    os.kill(pids[victim], signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    (run,) = melt.runs()
    assert run["outcome"] == "failed"
    shown = json.loads(melt.here("show", "last", "-o", "json").stdout)
    assert "9" in shown["stop"]["evidence"]["exit"] or "killed" in shown["stop"]["evidence"]["exit"]
    if subprocess.run(["dmesg"], capture_output=True).returncode == 0:
        assert shown["stop"]["evidence"]["dmesg"]
    assert not Path(f"/proc/{pids['runner']}").exists()


def test_both_agent_processes_are_killed(melt: Melt, wait_for: Wait) -> None:
    process = melt.start("run", *LONG, "--quant", "q8_0")
    wait_for("the run to be under way", lambda: _spooled(melt))
    pids = wait_for("its processes", lambda: found if len(found := _pids(melt)) == 3 else None)
    os.kill(pids["guardian"], signal.SIGKILL)
    os.kill(pids["worker"], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert [run["outcome"] for run in melt.runs()] == ["failed"]
    wait_for("the runner to be gone", lambda: not Path(f"/proc/{pids['runner']}").exists())


def test_two_melts_never_measure_at_once(melt: Melt, wait_for: Wait) -> None:
    process = melt.start("run", *LONG, "--quant", "q8_0")
    wait_for("the run to be under way", lambda: _spooled(melt))
    done = melt("run", *SMALL, check=1)
    assert str(process.pid) in done.stderr
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


def test_results_folder_that_cannot_be(melt: Melt, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for where in (tmp_path / "file", Path("/proc/melt-results")):
        done = subprocess.run(
            [*melt.argv(("run", *SMALL))[:-1], str(where)], env=melt.env, capture_output=True, text=True
        )
        assert done.returncode in (1, 2)
        assert str(where) in done.stderr
        said = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
        assert len(said) == 1


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder]).returncode != 0
    ):
        pytest.skip("a full disk needs the right to mount a small one")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_results_folder_that_is_full(melt: Melt, small_disk: Path, tmp_path: Path) -> None:
    full = Melt(melt.env, small_disk, melt.state)
    done = full("run", *SMALL, "--quant", "q8_0", "--sessions", "40", check=1)
    assert str(small_disk) in done.stderr
    published = {p.name for p in (small_disk / "traces").iterdir() if not p.name.endswith(".tmp")}
    roomy = tmp_path / "roomy"
    shutil.copytree(small_disk, roomy)
    kept = {run["run_id"] for run in Melt(melt.env, roomy, melt.state).runs()}
    assert kept <= published or not kept
    assert Melt(melt.env, roomy, melt.state)("store", "verify").returncode == 0


def test_a_run_of_nobody_here_is_not_measured_beside(melt: Melt, wait_for: Wait, tmp_path: Path) -> None:
    process = melt.start("run", *LONG, "--quant", "q8_0")
    wait_for("the run to be under way", lambda: _spooled(melt))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for lease in (melt.state / "melt" / "leases").iterdir():
        lease.unlink()  # As on another computer, which knows nothing of who began it.
    elsewhere = Melt(melt.env, tmp_path / "elsewhere", melt.state)
    done = elsewhere("run", *SMALL, "--quant", "q8_0", check=1)
    assert "a run that this melt did not start goes on there" in done.stderr
    assert "measuring memory bandwidth" not in done.stderr, "that would disturb the run"
    assert elsewhere.runs() == []


def test_a_dead_melts_device_is_taken_over(melt: Melt, wait_for: Wait, tmp_path: Path) -> None:
    process = melt.start("run", *LONG, "--quant", "q8_0")
    wait_for("the run to be under way", lambda: _spooled(melt))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    elsewhere = Melt(melt.env, tmp_path / "elsewhere", melt.state)
    done = elsewhere("run", *SMALL, "--quant", "q8_0")
    assert f"melt (process {process.pid}) left there when it died is stopped" in done.stderr
    assert {run["outcome"] for run in elsewhere.runs()} == {"ok"}
    resumed = melt.start("resume")
    wait_for("the run to be done anew", lambda: len(melt.runs()) == 1 and _spooled(melt))
    assert [run["outcome"] for run in melt.runs()] == ["aborted"]
    resumed.send_signal(signal.SIGINT)
    resumed.communicate(timeout=60)


def test_a_dead_job_gets_its_end_before_another_melt_measures(melt: Melt, wait_for: Wait, tmp_path: Path) -> None:
    process = melt.start("run", *LONG, "--quant", "q8_0")
    wait_for("the run to be under way", lambda: _spooled(melt))
    pids = wait_for("its processes", lambda: found if len(found := _pids(melt)) == 3 else None)
    (job,) = melt.job_dirs()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    os.kill(pids["guardian"], signal.SIGKILL)
    os.kill(pids["worker"], signal.SIGKILL)
    done = Melt(melt.env, tmp_path / "elsewhere", melt.state)("run", *SMALL, "--quant", "q8_0")
    assert "is given its end" in done.stderr
    assert json.loads((job / "end").read_text())["reason"] == "recovered"


def test_a_run_is_not_sought_on_another_device_that_has_the_address_now(melt: Melt, wait_for: Wait) -> None:
    process = melt.start("run", *LONG, "--quant", "q8_0")
    wait_for("the run to be under way", lambda: _spooled(melt))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (document,) = melt.store.glob("spool/*/start.json")
    start = json.loads(document.read_text())
    start["device"]["device_id"] = "linux-of-another"
    document.write_text(json.dumps(start))
    said = melt("resume", check=None).stderr
    assert "(linux-" in said
    assert "not the device that was asked for" in said
    assert document.exists(), "the run is still to be had there"
    assert melt.runs() == []
