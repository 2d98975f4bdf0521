"""Questions to the kernel in place of files: macOS answers them, Linux says that it has files for it."""

from __future__ import annotations

import errno
import sys

import pytest
from agent_rig import Agent

from melt.targets.jobfile import File, Group, Job

USAGE, CPUS = "kernel:usage:{pid}", "kernel:cpus"
RUNNER = (sys.executable, "-c", "import time; time.sleep(0.3)")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS answers")
def test_linux_refuses_a_question_and_goes_on_sampling(agent: Agent) -> None:
    files = (File(0, USAGE), File(1, CPUS), File(2, "/proc/uptime"))
    job = Job(run_id="r", runner=RUNNER, groups=(Group(0, 20_000_000, files),))
    folder = agent.started(job)
    assert folder.end()["reason"] == "completed"
    asked = [tick for tick in folder.ticks() if tick.errnos.get(0) != errno.ESRCH]
    assert asked, "no tick while the runner lived"
    for tick in asked:
        assert tick.contents[:2] == (None, None)
        assert tick.contents[2]
        assert {tick.errnos[0], tick.errnos[1]} == {errno.ENOTSUP}


@pytest.mark.skipif(sys.platform != "linux", reason="macOS answers")
def test_a_question_among_globs_is_not_readable_and_the_rest_is(agent: Agent) -> None:
    done = agent.run("read", CPUS, "/proc/sys/kernel/ostype")
    assert done.stdout == b"kernel:cpus -1\n/proc/sys/kernel/ostype 6\nLinux\n\n"


@pytest.mark.skipif(sys.platform != "darwin", reason="needs macOS")
def test_macos_answers_about_the_runner_and_its_cpus(agent: Agent) -> None:
    files = (File(0, USAGE), File(1, CPUS))
    folder = agent.started(Job(run_id="r", runner=RUNNER, groups=(Group(0, 20_000_000, files),)))
    folder.end()
    usage, cpus = next(tick.contents for tick in folder.ticks() if tick.contents[0])
    assert usage is not None
    assert cpus is not None
    named = dict(line.split(": ") for line in usage.decode().splitlines())
    assert int(named["footprint_peak_bytes"]) >= int(named["footprint_bytes"]) > 1 << 20
    assert cpus.startswith(b"cpu0 ")
