"""Golden transcripts, held against both sides: what the host writes the agent reads, and the other way round."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from agent_rig import Agent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melt.errors import AgentError, UsageError
from melt.targets.jobfile import (
    File,
    Group,
    Job,
    Poll,
    PollTrip,
    Prepare,
    RestoreExec,
    RestoreWrite,
    StreamCommand,
    Trip,
    decode_field,
    encode_field,
)
from melt.telemetry.journal import Event, JournalWriter, Line, Meta, Record, Tick, read_journal

GOLDEN = Path(__file__).parent / "golden" / "agent"

JOBS = {
    "smallest": Job(run_id="r"),
    "phone": Job(
        run_id="2026-11-21T10:00 pixel/q4_0",
        runner=("/data/local/tmp/melt/llama runner", "--model", "100% größe.gguf", ""),
        cwd="/data/local/tmp",
        env={"LD_LIBRARY_PATH": "", "GGML_X": "a=b"},
        affinity="4-7,0",
        timeout_s=3600,
        linger_s=2.5,
        recovery_s=90.0,
        groups=(
            Group(0, 100_000_000, (File(0, "/sys/class/thermal/thermal_zone0/temp", 64), File(1, "/proc/stat"))),
            Group(1, 10_000_000, (File(2, "/proc/{pid}/status", 4096),)),
        ),
        streams=(StreamCommand(2, ("dumpsys", "battery\n")), StreamCommand(3, ("sh", "-c", "echo #"))),
        polls=(
            Poll(
                4,
                1_000_000_000,
                ("dumpsys", "thermalservice"),
                (PollTrip(3, "Thermal Status: "), PollTrip(45, "Temperature{mValue=", "mName=CPU0,")),
            ),
            Poll(5, 100_000_000, ("cat", "/a b")),
        ),
        prepares=(Prepare("fixed performance", ("cmd", "power", "set-fixed-performance-mode-enabled", "true")),),
        trips=(Trip(0, 95000), Trip(1, -1)),
        restores=(RestoreWrite("/sys/x", "schedutil"), RestoreExec(("settings", "put", "global", "stay_on", "0"))),
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_golden_job_is_what_the_host_writes_and_the_agent_reads(name: str, agent: Agent) -> None:
    golden = (GOLDEN / "good" / f"{name}.job").read_bytes()
    assert JOBS[name].render() == golden
    done = agent.run("check", agent.folder(golden).path)
    assert (done.returncode, done.stdout, done.stderr) == (0, golden, b"")


@pytest.mark.parametrize("path", sorted((GOLDEN / "bad").glob("*.job")), ids=lambda path: path.stem)
def test_a_wrong_job_is_refused_with_its_line(path: Path, agent: Agent) -> None:
    folder = agent.folder(path.read_bytes())
    expected = path.with_suffix(".stderr").read_text()
    for verb in ("check", "start"):
        done = agent.run(verb, folder.path)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode() == expected.format(folder=folder.path)
    assert folder.status()["state"] == "absent"


text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
words = st.lists(text, min_size=1, max_size=4).map(tuple)
numbers = st.integers(0, 0xFFFF)
periods = st.integers(10**8, 86400 * 10**9)
poll_trips = st.lists(st.builds(PollTrip, st.integers(-(2**63) + 1, 2**63 - 1), text.filter(bool), text), max_size=2)


@st.composite
def any_job(draw: st.DrawFn) -> Job:
    cids = iter(draw(st.lists(numbers, unique=True, max_size=8)))
    groups = tuple(
        Group(gid, draw(st.integers(100_000, 86400 * 10**9)), files)
        for gid in draw(st.lists(numbers, unique=True, max_size=3))
        if (
            files := tuple(
                File(c, draw(text), draw(st.integers(1, 65533))) for c, _ in zip(cids, range(2), strict=False)
            )
        )
    )
    files = [file.cid for group in groups for file in group.files]
    sids = draw(st.lists(st.integers(2, 65535), unique=True, max_size=4))
    return Job(
        run_id=draw(text),
        runner=draw(st.one_of(st.just(()), words)),
        cwd=draw(st.none() | text),
        env=draw(st.dictionaries(text.filter(lambda t: t and "=" not in t), text, max_size=3)),
        affinity=draw(st.sampled_from([None, "0", "0-3,6", "1023"])),
        timeout_s=draw(st.none() | st.floats(0.0001, 1e6)),
        linger_s=draw(st.just(0.0) | st.floats(0.0001, 1e6)),
        recovery_s=draw(st.just(0.0) | st.floats(0.0001, 1e6)),
        groups=groups,
        streams=tuple(StreamCommand(sid, draw(words)) for sid in sids[:2]),
        polls=tuple(Poll(sid, draw(periods), draw(words), tuple(draw(poll_trips))) for sid in sids[2:]),
        prepares=tuple(draw(st.lists(st.builds(Prepare, text, words), max_size=2))),
        trips=tuple(Trip(c, draw(st.integers(-(2**63) + 1, 2**63 - 1))) for c in files[:2]),
        restores=tuple(draw(st.lists(st.builds(RestoreWrite, text, text) | st.builds(RestoreExec, words), max_size=3))),
    )


@settings(
    max_examples=3 * settings.default.max_examples // 5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(job=any_job())
def test_the_agent_understands_any_job_as_it_was_meant(job: Job, agent: Agent) -> None:
    done = agent.run("check", agent.folder(job, agent.root / "checked-job").path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == job.render()


@settings(
    max_examples=4 * settings.default.max_examples // 5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.binary(max_size=80), start=st.sampled_from([b"", b"melt-job 1\n", b"melt-job 1\nrun x\ngroup 1 1000000\n"])
)
def test_no_bytes_confuse_the_parser(data: bytes, start: bytes, agent: Agent) -> None:
    done = agent.run("check", agent.folder(start + data + b"\n", agent.root / "checked-job").path)
    assert done.returncode in (0, 1)
    assert (done.returncode == 0) == (done.stderr == b"")


@given(st.binary(max_size=30).filter(lambda b: 0 not in b))
def test_a_field_is_read_as_it_was_written(value: bytes) -> None:
    field = encode_field(value)
    assert b" " not in field
    assert field
    assert decode_field(field).encode(errors="surrogateescape") == value


@pytest.mark.parametrize("field", [b"", b"%", b"%2", b"%zz", b"a b", b"a%-", b"%00"])
def test_what_is_no_field_is_refused(field: bytes) -> None:
    with pytest.raises((AgentError, UsageError)):
        decode_field(field)


@pytest.mark.parametrize(
    "job",
    [Job(run_id="a\0"), Job(run_id="\ud800"), Job(run_id="a", timeout_s=-1), Job(run_id="a", linger_s=1e9)],
    ids=["zero-byte", "no-bytes", "negative", "too-long"],
)
def test_a_job_that_the_agent_could_not_take_is_refused_by_the_host(job: Job) -> None:
    with pytest.raises(UsageError):
        job.render()


def as_json(record: Record) -> dict[str, Any]:
    def show(content: bytes | None) -> str | None:
        return None if content is None else content.decode("latin-1")

    if isinstance(record, Tick):
        errnos = {str(index): code for index, code in record.errnos.items()}
        return {"tick": [record.gid, record.t_ns, record.duration_ns, [show(c) for c in record.contents], errnos]}
    if isinstance(record, Line):
        return {"line": [record.source, record.t_ns, record.cut, show(record.data)]}
    if isinstance(record, Event):
        return {"event": [record.name, record.t_ns, record.data]}
    return {"meta": record.data}


def write_golden_journal() -> bytes:
    out = io.BytesIO()
    writer = JournalWriter(out, b"melt1234")
    writer.meta({"run": "golden", "agent": "0123456789abcdef", "protocol": 1, "t_ns": 1_000})
    writer.event("runner_started", 2_000, pid=42, affinity_asked="0-1", affinity="0-1")
    writer.tick(0, 3_000, 250, [b"45000\n", b"cpu  1 2 3\n", 2])
    writer.line(0, 3_500, b'{"event":"hello"}')
    writer.tick(1, 4_000, 10, [b""])
    writer.tick(0, 5_000, 240, [b"45000\n", b"cpu  1 2 4\n", 13])
    writer.line(1, 5_500, b"\xff\x00 no text", cut=True)
    writer.tick(0, 2**63, 2**32 - 1, [19, b"cpu  1 2 4\n", b"back"])
    writer.tick(0, 2**63 + 1, 0, [b"45000\n", b"cpu  1 2 4\n", b"back"])
    writer.event("end", 9_000, reason="completed", exit_code=0, signal=None, restored=[])
    return out.getvalue()


def test_the_golden_journal_is_written_and_read_as_ever() -> None:
    golden = (GOLDEN / "journal").read_bytes()
    assert write_golden_journal() == golden
    expected = [json.loads(line) for line in (GOLDEN / "journal.jsonl").read_text().splitlines()]
    journal = read_journal(golden)
    assert [as_json(record) for record in journal.records] == expected
    assert not journal.torn


def shape(value: object) -> object:
    return {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value).__name__


def test_the_agents_own_journal_has_the_golden_structure(agent: Agent) -> None:
    """Names and types of every record that a plain job yields; times and numbers differ each time."""
    job = Job(
        run_id="golden",
        runner=("/bin/sh", "-c", "echo hello; sleep 0.1"),
        polls=(Poll(2, 100_000_000, ("false",)),),
        prepares=(Prepare("a name", ("true",)),),
        affinity="0",
        groups=(Group(0, 10_000_000, (File(0, "/proc/version"), File(1, "/none"))),),
        restores=(RestoreExec(("true",)),),
    )
    folder = agent.started(job)
    folder.end()
    seen: dict[str, object] = {}
    for record in folder.journal().records:
        if isinstance(record, Meta):
            seen["meta"] = shape(record.data)
        elif isinstance(record, Event):
            seen[record.name] = shape(record.data)
        elif isinstance(record, Tick):
            assert record.contents == (Path("/proc/version").read_bytes(), None)
            assert record.errnos == {1: 2}
    assert seen == json.loads((GOLDEN / "structure.json").read_text())
