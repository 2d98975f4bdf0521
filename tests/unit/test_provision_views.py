"""What is shown while hosts are provisioned, on a terminal and in a log."""

from __future__ import annotations

import pytest

from melt.cli._provisioning import provisioning
from melt.targets.provision import Said

STORY = (
    Said("step", {"number": 4, "of": 5, "what": "installing llama-cpp-python==0.3.36 for CUDA 12.6"}),
    Said("activity", {"what": "compiling with 4 at once"}),
    Said("note", {"message": "no [brackets] are markup"}),
    *(Said("progress", {"done": done, "total": 40}) for done in range(1, 41)),
    Said("busy", {"job": "/home/lab/.melt/jobs/provision-1"}),
    Said("unheard of", {}),
)


def test_a_log_has_a_line_for_each_thing_and_each_tenth(capsys):
    with provisioning(["ssh:orin"]) as view:
        for said in STORY:
            view.see("ssh:orin", said)
        view.say("ssh:orin", "the device is back")
    said = capsys.readouterr()
    assert not said.out
    assert said.err.splitlines() == [
        "ssh:orin: [4/5] installing llama-cpp-python==0.3.36 for CUDA 12.6",
        "ssh:orin: compiling with 4 at once",
        "ssh:orin: note: no [brackets] are markup",
        *(f"ssh:orin: {done} of 40 built" for done in range(4, 41, 4)),
        "ssh:orin: the device is back",
    ]


@pytest.mark.parametrize("hosts", [["ssh:orin"], ["ssh:orin", "ssh:mini"]])
def test_a_terminal_has_a_bar_for_each_host_and_keeps_the_notes(capsys, monkeypatch, hosts):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with provisioning(hosts) as view:
        for host in hosts:
            for said in STORY:
                view.see(host, said)
    said = capsys.readouterr()
    assert not said.out
    for host in hosts:
        assert f"{host}: no [brackets] are markup" in said.err
        assert f"{host}: [4/5] installing llama-cpp-python==0.3.36 for CUDA 12.6" in said.err
