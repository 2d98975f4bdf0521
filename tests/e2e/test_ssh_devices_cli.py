"""Boards behind SSH, from the unknown key to the list: against a real sshd, as a user has it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from melt_rig import Melt
from virtual.sshd import Sshd

pytestmark = pytest.mark.slow  # each command logs in anew, and frozen hosts are waited for


@pytest.fixture
def board(melt: Melt, tmp_path: Path) -> Iterator[Sshd]:
    """A host whose key nobody knows yet."""
    with Sshd(tmp_path / "board") as sshd:
        sshd.known_hosts.write_text("")
        melt.env.update(sshd.environment)
        yield sshd


def home(board: Sshd) -> Path:
    return board.host_key.parent / "home"


def _fingerprint(key: Path) -> str:
    done = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def _listed(melt: Melt, *words: str) -> dict[str, dict[str, object]]:
    return {device["device"]: device for device in json.loads(melt("devices", "-o", "json", *words).stdout)}


def test_an_unknown_key_is_shown_and_not_trusted_without_an_answer(melt: Melt, board: Sshd) -> None:
    said = melt("devices", "trust", "board", check=2).stderr
    fingerprint = _fingerprint(board.host_key)
    assert f"{fingerprint} (ED25519)" in said
    assert f"127.0.0.1 port {board.port}" in said
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in said
    assert f"`--fingerprint {fingerprint}`" in said
    assert "ssh:board" not in _listed(melt)
    assert "melt devices trust board" in melt("doctor", "ssh:board", check=1).stdout


def test_a_fingerprint_decides(melt: Melt, board: Sshd) -> None:
    wrong = "SHA256:" + "A" * 43
    assert wrong in melt("devices", "trust", "board", "--fingerprint", wrong, check=1).stderr
    assert "ssh:board" not in _listed(melt)
    melt("devices", "trust", "ssh:board", "--fingerprint", _fingerprint(board.host_key))
    found = _listed(melt)
    assert found["ssh:board"]["state"] == "ready"
    assert found["ssh:board"]["device_id"] == found["local"]["device_id"]
    assert not (home(board) / ".melt").exists(), "a device that is only listed gets nothing"
    assert "is forgotten" in melt("devices", "forget", "board").stderr
    assert "ssh:board" not in _listed(melt)
    assert "was not trusted" in melt("devices", "forget", "board", check=2).stderr


@pytest.mark.parametrize("word", ["md5:12:34", "SHA256:", "deadbeef"])
def test_what_is_no_fingerprint_is_refused(melt: Melt, board: Sshd, word: str) -> None:
    assert "`ssh-keygen -lf` prints" in melt("devices", "trust", "board", "--fingerprint", word, check=2).stderr


def test_a_key_that_ssh_knows_is_said_so_and_enrolled(melt: Melt, board: Sshd) -> None:
    board.know()
    assert "ssh:board" not in _listed(melt), "melt lists only what it was told of"
    assert "was known already" in melt("devices", "trust", "board").stderr
    assert _listed(melt)["ssh:board"]["usable"]


def test_a_changed_key_needs_an_answer_of_its_own(melt: Melt, board: Sshd) -> None:
    before = _fingerprint(board.host_key)
    melt("devices", "trust", "board", "--yes")
    board.new_host_key()
    entry = _listed(melt)["ssh:board"]
    assert entry["state"] == "host key changed"
    assert "melt devices trust board" in str(entry["reason"])
    said = melt("devices", "trust", "board", "--yes", check=2).stderr
    assert before in said
    assert _fingerprint(board.host_key) in said
    assert "ANOTHER ONE" in said
    assert _listed(melt)["ssh:board"]["state"] == "host key changed"
    assert "key of before" not in melt("devices", "trust", "board", "--replace").stderr
    assert _listed(melt)["ssh:board"]["state"] == "ready"


def test_a_key_of_before_that_melt_does_not_remove_is_told(melt: Melt, board: Sshd) -> None:
    board.know()
    board.new_host_key()
    said = melt("devices", "trust", "board", "--replace").stderr
    assert f"the key of before still stands in {board.known_hosts}:1, and lets in who has it" in said


@pytest.mark.parametrize(("answer", "status"), [("no", 1), ("y", 1), ("", 1), ("yes", 0)])
def test_a_terminal_is_asked(melt: Melt, board: Sshd, answer: str, status: int) -> None:
    said, ended = _at_a_terminal(melt, ["devices", "trust", "board"], answer)
    assert "Trust this key? Type yes, no, or the fingerprint:" in said
    assert ended == status
    assert ("is trusted: measure on it with `--device ssh:board`" in said) is (status == 0)


def _at_a_terminal(melt: Melt, words: list[str], answer: str) -> tuple[str, int]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "melt", *words], env=melt.env, stdin=theirs, stderr=theirs, stdout=theirs
    )
    os.close(theirs)
    said = b""
    try:
        while True:
            said += os.read(ours, 4096)
            if b"fingerprint: " in said and answer is not None:
                os.write(ours, answer.encode() + b"\n")
                answer = None
    except OSError:  # the terminal's other end is closed: the program has ended
        return said.decode(), process.wait(30)
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def test_a_host_that_is_off_and_one_that_is_frozen_stop_nobody(melt: Melt, board: Sshd, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "shelf.yaml").write_text(
        "title: a board of the lab\nmatch: {device_id: none}\naddresses: [ssh:stranger, adb:1.2.3.4:5]\n"
    )
    melt.env["MELT_DEVICES"] = str(profiles)
    with (
        Sshd(tmp_path / "off", alias="off") as off,
        Sshd(tmp_path / "frozen", alias="frozen") as frozen,
        Sshd(tmp_path / "stranger", alias="stranger") as stranger,
    ):
        stranger.known_hosts.write_text("")
        all_ = tmp_path / "ssh_config"
        all_.write_text("\n".join(host.config.read_text() for host in (board, off, frozen, stranger)))
        melt.env["MELT_SSH_CONFIG"] = str(all_)
        for alias in ("board", "off", "frozen"):
            melt("devices", "trust", alias, "--yes")
        off.stop()
        frozen.freeze(listener=True)
        began = time.monotonic()
        found = _listed(melt, "--timeout", "4")
        assert time.monotonic() - began < 10
        frozen.thaw()
    states = {device: entry["state"] for device, entry in found.items() if device.startswith("ssh:")}
    assert states == {
        "ssh:board": "ready",
        "ssh:off": "unreachable",
        "ssh:frozen": "silent",
        "ssh:stranger": "not trusted",
    }
    assert "melt devices trust stranger" in str(found["ssh:stranger"]["reason"])
    assert all(found[f"ssh:{alias}"]["reason"] for alias in ("off", "frozen", "stranger"))


def test_a_key_that_the_board_does_not_take(melt: Melt, board: Sshd, tmp_path: Path) -> None:
    melt("devices", "trust", "board", "--yes")
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    board.config.write_text(board.config.read_text().replace(str(board.identity), str(other)))
    entry = _listed(melt)["ssh:board"]
    assert entry["state"] == "unauthorized"
    assert "ssh-copy-id" in str(entry["reason"])
    shown = melt("doctor", "board", check=1).stdout
    assert "unauthorized" in shown
    assert "ssh-copy-id" in shown
    found = json.loads(melt("doctor", "board", "-o", "json", check=1).stdout)
    assert found["state"] == "unauthorized"


def test_doctor_says_what_a_board_lacks_and_cleaning_takes_back(
    melt: Melt, board: Sshd, give_python: Callable[[Path], None]
) -> None:
    melt("devices", "trust", "board", "--yes")
    bare = melt("doctor", "ssh:board", check=1).stdout
    assert "`melt provision board`" in bare
    assert "/proc/stat" in bare
    give_python(home(board))
    provisioned = melt("doctor", "board").stdout
    assert re.search(r"engine llama\.cpp +llama-cpp-python", provisioned)
    assert "no engine is on the device" not in provisioned
    found = json.loads(melt("doctor", "--device", "board", "-o", "json").stdout)
    assert found["device"]["kind"] == "ssh"
    blob = home(board) / ".melt" / "blobs" / "0123456789abcdef" / "model.gguf"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"\0" * 3_000_000)
    assert "freed 2.86 MiB" in melt("devices", "clean", "board").stderr
    assert not blob.exists()
