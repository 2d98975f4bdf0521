"""From a run's folder to a result: the one place where raw bytes become a bundle, live or after a crash."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, replace

from melt.analysis import kernel_log, operators
from melt.analysis.evaluate import evaluate
from melt.analysis.metered import Metered
from melt.codec import loads
from melt.engines.registry import get as get_engine
from melt.errors import StoreError
from melt.fleet.fit import predict
from melt.records import Outcome, Reason, RunStart, RunStop, Verdict
from melt.session import folder as docs
from melt.session.folder import RunFolder
from melt.targets.jobfile import Job
from melt.targets.probe import load_snapshot
from melt.telemetry.base import PYTHON, STREAMS
from melt.telemetry.decode import decode
from melt.telemetry.journal import Event, Journal, Line, read_journal
from melt.telemetry.meters.recording import DOCUMENT, Recording, read_recording
from melt.telemetry.platforms import platform
from melt.telemetry.schedule import Schedule, make_schedule
from melt.traces import RunBundle
from melt.verdicts import decide, worst

_STDOUT, _STDERR = 0, 1
_EVIDENCE_BYTES = 16_384
_CHANGED = Reason(
    code="channels_changed",
    message="the run was sampled by a melt that knew other channels: its sensors are not decoded, the journal is kept",
)


@dataclass(frozen=True, slots=True)
class _End:
    """How the collection ended, as the session noted it; all empty when the host died before."""

    state: str = "unknown"
    end: dict[str, object] | None = None
    interrupted: bool = False


def assemble(folder: RunFolder) -> RunBundle:
    """Make a result of what lies in a run's folder. Raises StoreError when not even its start was written."""
    raw_start = folder.read_document(docs.START)
    raw_snapshot = folder.read_document(docs.SNAPSHOT)
    if raw_start is None or raw_snapshot is None:
        raise StoreError(f"{folder.path} holds no run: it ended before anything was started")
    start = loads(RunStart, raw_start)
    discovery = platform(start.device.os).discover(load_snapshot(raw_snapshot), start.spec.sampling)
    journal = read_journal(folder.journal_path) if _has_journal(folder) else Journal(None, [], 0, False)
    lines = [r for r in journal.records if isinstance(r, Line)]
    stderr = _text(lines, _STDERR)
    noted = _read_end(folder)
    schedule = make_schedule(discovery)
    understood = _was_sampled_by(schedule, folder.read_document(docs.JOB) or b"")
    recording = _recording(folder)
    report = get_engine(start.spec.engine).parse(line.data for line in lines if line.source == _STDOUT)
    profile = report.profile
    evaluation = evaluate(
        start,
        report,
        decode(journal, schedule) if understood else [],
        [r for r in journal.records if isinstance(r, Event)],
        torn=journal.torn,
        end=noted.end,
        stderr=stderr,
        recording=recording,
    )
    outcome, verdict, reasons = evaluation.outcome, evaluation.verdict, evaluation.reasons
    if not understood:
        changed = decide([_CHANGED], start.spec.thresholds, energy_required=False)
        verdict, reasons = worst((verdict, changed)), (_CHANGED, *reasons)
    if noted.interrupted and outcome is not Outcome.ABORTED:
        outcome = Outcome.ABORTED
        reasons = (Reason(code="interrupted", message="stopped by the user before it was done"), *reasons)
    if outcome is Outcome.OOM:
        reasons = (_with_prediction(reasons[0], start), *reasons[1:])
    evidence = {} if outcome is Outcome.OK else _evidence(folder, stderr, noted, journal)
    stop = RunStop(
        run_id=start.spec.run_id,
        ended_utc_ns=time.time_ns(),
        outcome=outcome,
        verdict=verdict if outcome is Outcome.OK else Verdict.INVALID,
        reasons=reasons,
        used=dict(evaluation.used),
        evidence=evidence,
    )
    return RunBundle(
        start=start,
        stop=stop,
        windows=evaluation.windows,
        metrics=evaluation.metrics,
        traces=(
            *evaluation.traces,
            *evaluation.request_traces,
            *(() if profile is None else (operators.operator_trace(profile),)),
        ),
        journal=folder.journal_path if _has_journal(folder) else None,
        attachments={
            "snapshot.json": raw_snapshot.decode(),
            **({"stderr.txt": stderr} if stderr else {}),
            **({} if profile is None else {operators.DOCUMENT: operators.document_of(profile), **profile.raw}),
            **_of_the_meter(recording, evaluation.metered),
        },
    )


def _recording(folder: RunFolder) -> Recording | Reason | None:
    """Return what an external meter said; where nobody can read that, why: a run is worth more than its meter."""
    try:
        return read_recording(folder.path)
    except StoreError as error:
        return Reason(code="meter_unreadable", message=str(error))


def _of_the_meter(recording: Recording | Reason | None, metered: Metered) -> dict[str, str]:
    """Return what is known of an external meter, and how its clock was brought to the device's."""
    if not isinstance(recording, Recording):
        return {}
    counts = {"samples": len(recording.t_ns), "lost": recording.lost, "unread": recording.unread}
    return {
        DOCUMENT: json.dumps({**asdict(recording.noted), **counts, "on_device_clock": metered.figures}, indent=1),
    }


def _with_prediction(reason: Reason, start: RunStart) -> Reason:
    """Put beside the reason of an out-of-memory run what had been predicted for it."""
    fit = predict(start.spec, start.artifact, start.device)
    return reason if fit is None else replace(reason, figures={**reason.figures, **fit.figures})


def _was_sampled_by(schedule: Schedule, job: bytes) -> bool:
    """Say whether the numbers in the journal mean what this melt thinks: after an update they might not."""
    words = (b"group ", b"file ", b"stream ", b"poll ")
    meant = Job(run_id="-", groups=schedule.groups, streams=schedule.streams, polls=schedule.polls).render()
    asked, expected = ([line for line in text.splitlines() if line.startswith(words)] for text in (job, meant))
    return len(asked) == len(expected) and all(map(_is_placed, expected, asked))


def _is_placed(expected: bytes, asked: bytes) -> bool:
    """Whether a line of a job is the expected one, with the device's own paths in the places that stand for them."""
    pattern = re.escape(expected)
    for place in (STREAMS, PYTHON):
        pattern = pattern.replace(re.escape(place.encode()), rb"\S+")
    return re.fullmatch(pattern, asked) is not None


def _has_journal(folder: RunFolder) -> bool:
    return folder.journal_path.is_file() and folder.journal_path.stat().st_size > 0


def _read_end(folder: RunFolder) -> _End:
    data = folder.read_document(docs.COLLECTED)
    return _End() if data is None else _End(**json.loads(data))


def _text(lines: list[Line], source: int) -> str:
    return "\n".join(line.data.decode(errors="replace") for line in lines if line.source == source)


def _evidence(folder: RunFolder, stderr: str, noted: _End, journal: Journal) -> dict[str, str]:
    evidence = {"exit": json.dumps(noted.end or {"state": noted.state})}
    evidence |= json.loads(folder.read_document(docs.EVIDENCE) or b"{}")
    began_ns = next((r.t_ns for r in journal.records if isinstance(r, Event)), None)
    if "dmesg" in evidence and began_ns is not None and (noted.end or {}).get("rebooted") is not True:
        evidence["dmesg"] = kernel_log.since(evidence["dmesg"], began_ns)
    if stderr:
        evidence["stderr"] = stderr[-_EVIDENCE_BYTES:]
    return evidence
