"""A sweep that is killed and resumed: its sessions are counted on, and each run says which one it belongs to."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable

import pytest
from melt_rig import TINY, Melt

pytestmark = pytest.mark.slow

Wait = Callable[..., object]


def test_sessions_of_a_resumed_sweep_are_counted_on(melt: Melt, wait_for: Wait) -> None:
    words = (*TINY, "--quant", "q8_0,q4_0", "--workload", "pp32", "-r", "2", "-t", "1", "--sessions", "3")
    process = melt.start("run", *words)
    wait_for("a run of the second block", lambda: len(list(melt.store.glob("traces/2*"))) > 2, timeout_s=120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    melt("resume")
    documents = json.loads(melt.here("export", "-f", "json").stdout)
    sessions = [one["start"]["session"] for one in documents]
    assert len(sessions) == 6
    by_uid = {session["uid"]: session for session in sessions}
    found = sorted(by_uid.values(), key=lambda session: session["began_utc_ns"])
    assert [session["number"] for session in found] == list(range(len(found)))
    aparts = [session["apart"] for session in found]
    assert aparts.count("start") == 2, "the first, and the first after melt was started anew"
    assert set(aparts) == {"start", "block"}
    again = found[aparts.index("start", 1)]
    assert again["number"] in (2, 3)
    assert all(session["rested_s"] >= 0 for session in found[1:])
    for one in documents:
        session, spec = one["start"]["session"], one["start"]["spec"]
        assert session == by_uid[session["uid"]]
        assert (session["sweep_id"], session["block"]) == (spec["sweep_id"], spec["block"])
        assert session["began_utc_ns"] <= one["start"]["started_utc_ns"]
    with sqlite3.connect(melt.store / "runs.sqlite") as database:
        rows = database.execute("SELECT uid, number, apart FROM sessions ORDER BY number").fetchall()
    database.close()
    assert rows == [(session["uid"], session["number"], session["apart"]) for session in found]
    told = " ".join(melt.here("compare").stdout.split())
    assert "followed the one before without boot, cool-down or pause" in told
    assert melt.here("store", "verify").returncode == 0
