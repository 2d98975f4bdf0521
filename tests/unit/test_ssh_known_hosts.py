"""Whose key is whose, by files as they are found: of other systems, of other tools, of several names."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from melt.errors import DeviceError
from melt.transports._ssh_known_hosts import comments, known, put, revoked_in

KEY, OTHER, THIRD = (base64.b64encode(bytes((each,)) * 51).decode() for each in (1, 2, 3))
AT_PORT = ("[192.0.2.7]:2222", "192.0.2.7")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def raw(key: str) -> bytes:
    return base64.b64decode(key)


def test_line_ends_of_windows_count(file: Path) -> None:
    file.write_bytes(f"192.0.2.7 ssh-ed25519 {KEY}\r\n\r\n@revoked * ssh-ed25519 {OTHER}\r\n".encode())
    entries = known(("192.0.2.7",), (file,))
    assert [(each.where, each.key, each.is_revoked) for each in entries] == [
        (f"{file}:1", raw(KEY), False),
        (f"{file}:3", raw(OTHER), True),
    ]


def test_the_key_of_the_bare_name_lets_in_but_is_not_that_of_the_port(file: Path) -> None:
    file.write_text(f"192.0.2.7 ssh-ed25519 {KEY}\n")
    assert [(each.key, each.is_exact) for each in known(AT_PORT, (file,))] == [(raw(KEY), False)]
    file.write_text(f"192.0.2.7 ssh-ed25519 {KEY}\n[192.0.2.7]:2222 ssh-ed25519 {OTHER}\n")
    assert [(each.key, each.is_exact) for each in known(AT_PORT, (file,))] == [(raw(OTHER), True)]


def test_a_host_that_was_trusted_by_two_names_has_one_key(file: Path) -> None:
    put(file, f"192.0.2.7 ssh-ed25519 {KEY} orin")
    put(file, f"192.0.2.9 ssh-ed25519 {KEY} nano")
    put(file, f"192.0.2.7 ssh-rsa {OTHER} lab@192.0.2.7")
    assert [each.key for each in known(("192.0.2.7",), (file,))] == [raw(OTHER), raw(OTHER)]
    assert [each.key for each in known(("192.0.2.9",), (file,))] == [raw(KEY)]
    assert sorted(comments(file)) == ["lab@192.0.2.7", "nano", "orin"]


def test_a_file_that_is_a_link_stays_one_and_is_private(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles" / "known_hosts"
    kept.parent.mkdir()
    kept.touch(0o644)
    file.symlink_to(kept)
    put(file, f"192.0.2.7 ssh-ed25519 {KEY} orin")
    assert file.is_symlink()
    assert comments(kept) == ["orin"]
    assert kept.stat().st_mode & 0o777 == 0o600


def test_revoked_keys_in_a_list_of_keys(file: Path) -> None:
    file.write_text(f"# stolen\nssh-ed25519 {OTHER} board 3\nssh-ed25519 {KEY}\n")
    assert [each.where for each in revoked_in(file, "ssh-ed25519", raw(KEY))] == [f"{file}:3"]
    assert revoked_in(file, "ssh-ed25519", raw(THIRD)) == []


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed: install openssh-client")
def test_revoked_keys_in_a_list_of_openssh(file: Path, tmp_path: Path) -> None:
    keys = []
    for name in ("stolen", "good"):
        subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name), check=True)
        keys.append(raw((tmp_path / f"{name}.pub").read_text().split()[1]))
    subprocess.run(("ssh-keygen", "-k", "-f", file, tmp_path / "stolen.pub"), check=True, capture_output=True)
    assert [each.is_revoked for each in revoked_in(file, "ssh-ed25519", keys[0])] == [True]
    assert revoked_in(file, "ssh-ed25519", keys[1]) == []
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DeviceError, match=r"cannot read .*known_hosts, which RevokedHostKeys names"):
        revoked_in(file, "ssh-ed25519", keys[1])


def test_revoked_keys_that_cannot_be_read_are_not_taken_for_none(file: Path) -> None:
    with pytest.raises(DeviceError, match=r"cannot read .*known_hosts, which RevokedHostKeys names: No such file"):
        revoked_in(file, "ssh-ed25519", raw(KEY))
