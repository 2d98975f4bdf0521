"""This very machine, from the snapshot to the trace: the real agent reads, melt decodes."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from melt.cli.main import main
from melt.fleet.lease import lease
from melt.records import Sampling
from melt.targets.agent import AgentClient
from melt.targets.jobfile import Job
from melt.targets.linux import FACT_COMMANDS, FACT_GLOBS, parse_facts
from melt.targets.probe import take_snapshot
from melt.telemetry.decode import decode
from melt.telemetry.journal import read_journal
from melt.telemetry.platforms import linux
from melt.telemetry.schedule import make_schedule
from melt.transports.local import LocalTransport

BUSY_PROGRAM = "import time\nx = bytearray(40_000_000)\nwhile time.process_time() < 1.0: pass"
"""Busy for a second of its own, which is several on a machine that does other things too."""


@pytest.mark.slow
def test_a_busy_program_is_seen_as_busy(tmp_path: Path) -> None:
    transport = LocalTransport()
    agent = AgentClient(transport, str(tmp_path / "device"))
    agent.deploy()
    snapshot = take_snapshot(transport, agent, (*FACT_GLOBS, *linux.GLOBS), {**FACT_COMMANDS, **linux.COMMANDS})
    facts = parse_facts(snapshot, device_id_hint="local", kind="local")
    assert facts.arch == os.uname().machine
    assert facts.kernel == os.uname().release
    assert len(facts.cpus) == len(os.sched_getaffinity(0))
    schedule = make_schedule(linux.discover(snapshot, Sampling(sensors_hz=50, process_hz=50)))
    folder = tmp_path / "job"
    folder.mkdir()
    job = Job(
        run_id="live",
        runner=(sys.executable, "-c", BUSY_PROGRAM),
        timeout_s=120,
        groups=schedule.groups,
        streams=schedule.streams,
    )
    (folder / "job").write_bytes(job.render())
    agent.start(str(folder))
    deadline = time.monotonic() + 120
    while agent.status(str(folder)).state == "running":
        assert time.monotonic() < deadline, "the job is still running"
        time.sleep(0.02)
    traces = {trace.collector: trace for trace in decode(read_journal(folder / "journal"), schedule)}
    process, memory, system = traces["process"], traces["process_memory"], traces["system"]
    steps_s = np.diff(process.t_ns) / 1e9
    assert 0.6 < len(steps_s) / (50 * steps_s.sum()) < 1.2
    assert bool((steps_s > 0).all())
    used_s = np.nanmax(process.columns["cpu_user_s"]) + np.nanmax(process.columns["cpu_system_s"])
    assert used_s == pytest.approx(1.0, abs=0.3)
    assert np.nansum(process.columns["cpus_used"][1:] * steps_s) == pytest.approx(used_s, abs=0.3)
    assert np.nanmax(memory.columns["rss_anon_bytes"]) > 40e6
    assert np.nanmax(memory.columns["rss_peak_bytes"]) >= np.nanmax(memory.columns["rss_bytes"])
    loads = [values for name, values in system.columns.items() if name.endswith("_busy_ratio")]
    assert all(np.nanmin(load) >= 0 and np.nanmax(load) <= 1 for load in loads)
    assert max(float(np.nanmean(load)) for load in loads) > 0.2


@pytest.mark.slow
def test_doctor_answers_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["doctor", "-o", "json"]) in (0, 1)
    document = json.loads(capsys.readouterr().out)
    assert document["device"]["memory_bandwidth_bytes_per_s"] > 1e8
    assert document["device"]["compute"]["int8_ops_per_s"] > 1e8
    channels = {channel["name"]: channel for channel in document["channels"]}
    assert channels["available_bytes"]["value"] > 1e6
    assert channels["rss_bytes"]["value"] is None


def test_doctor_leaves_alone_what_another_melt_measures_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    main(["devices", "-o", "json"])
    here = next(device for device in json.loads(capsys.readouterr().out) if device["device"] == "local")
    with lease(here["device_id"], "another run"):
        holder = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: holder + 1)
        assert main(["doctor", "-o", "json"]) == 1
    said = capsys.readouterr()
    assert f"another melt (process {holder}) is measuring on" in json.loads(said.out)["advice"][0]
    assert "measuring memory bandwidth" not in said.err


def test_doctor_of_an_unknown_device_says_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "lokal"]) == 2
    assert "did you mean `local`?" in capsys.readouterr().err
