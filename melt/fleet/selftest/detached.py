"""Steps about runs that nobody watches: the link goes and comes back, and the agent's worker is killed."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from threading import Event as Flag

from melt.analysis.selftest import Finding, verdict
from melt.errors import DeviceError
from melt.fleet.selftest.course import until
from melt.fleet.selftest.sampling import push_job
from melt.session.collect import collect
from melt.session.connect import Site
from melt.session.relink import reach_same
from melt.targets.jobfile import Job, RestoreExec
from melt.telemetry.journal import Event, read_journal

_LASTS_S = 4.0
_SELF_GAP_NS = 2_500_000_000
"""The agent writes of itself each second, watched or not."""
_WITHIN_S = 20.0


def check_lost_link(site: Site, job_dir: str, scratch: Path) -> Finding:
    """Start a job through a link, close that in mid-job, and collect the job whole through another one."""
    push_job(site, Job(run_id="selftest-detached", linger_s=_LASTS_S), job_dir, scratch)
    device_id = site.target.facts.device_id
    before = reach_same(site.selector, device_id)
    try:
        before.agent.start(job_dir)
        begun = until(lambda: before.agent.status(job_dir).journal_bytes > 0, _WITHIN_S)
    finally:
        before.transport.close()
    after = reach_same(site.selector, device_id)
    path = scratch / "selftest-detached.journal"
    try:
        running = after.agent.status(job_dir).state == "running"
        ended = collect(after.agent, job_dir, path, see=lambda _: None, stop=Flag())
        there = after.agent.status(job_dir).journal_bytes
    finally:
        after.transport.close()
    journal = read_journal(path)
    events = [record for record in journal.records if isinstance(record, Event)]
    own = [event.t_ns for event in events if event.name == "self"]
    gap_ns = max((later - earlier for earlier, later in pairwise(own)), default=0)
    reason = (ended.end or {}).get("reason")
    figures = {
        "journal_bytes": float(there),
        "collected_bytes": float(journal.valid_bytes),
        "records": float(len(journal.records)),
        "longest_gap_s": gap_ns / 1e9,
    }
    whole = not journal.torn and journal.valid_bytes == there and bool(events) and events[-1].name == "end"
    fine = begun and running and whole and reason == "completed" and len(own) > _LASTS_S - 1 and gap_ns < _SELF_GAP_NS
    said = f"closed and opened again in mid-job: {journal.valid_bytes} of {there} bytes collected, job {reason}"
    return verdict(fine, said + ("" if running else "; the job was over before"), figures, json.dumps(ended.end))


def check_killed_worker(site: Site, job_dir: str, scratch: Path) -> Finding:
    """Kill the agent's worker, and see that its guardian ends the runner and puts back what the job had changed."""
    put_back = f"{job_dir}/restored"
    job = Job(run_id="selftest-killed", runner=("sleep", "600"), restores=(RestoreExec(("touch", put_back)),))
    push_job(site, job, job_dir, scratch)
    agent, transport = site.target.agent, site.target.transport
    worker = agent.start(job_dir)
    runner = _runner(site, job_dir)
    killed = transport.run(("kill", "-9", str(worker)))
    if killed.exit_code:
        raise DeviceError(f"{transport.name}: kill: {killed.stderr.decode(errors='replace').strip()}")
    ended = until(lambda: agent.status(job_dir).state == "ended", _WITHIN_S)
    end = agent.status(job_dir).end or {}
    restored = transport.run(("test", "-e", put_back)).exit_code == 0
    left = transport.run(("kill", "-0", runner)).exit_code == 0
    fine = ended and restored and not left and end.get("reason") == "agent_killed"
    said = "the guardian ended the runner and ran the restore command"
    if not fine:
        told = (end.get("reason", "no end"), "ran" if restored else "did not run", "left" if left else "gone")
        said = "the job: {}; restore command {}; runner {}".format(*told)
    return verdict(fine, said, raw=json.dumps(end))


def _runner(site: Site, job_dir: str) -> str:
    """Return the runner's process as the agent noted it, once it did. Raises DeviceError."""
    found: list[str] = []

    def noted() -> bool:
        said = site.target.transport.run(("cat", f"{job_dir}/pid")).stdout.decode(errors="replace")
        found[:] = [words[1] for line in said.splitlines() if (words := line.split())[:1] == ["runner"]]
        return bool(found)

    if not until(noted, _WITHIN_S):
        raise DeviceError(f"{site.target.transport.name}: the runner did not start within {_WITHIN_S:g} s")
    return found[0]
