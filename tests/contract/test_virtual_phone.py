"""The virtual phone against the real adb clients, old and new: what a phone does, it does."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual.phone import VirtualPhone
from virtual.phone.testing import Adb, playing

from melt.errors import AgentError
from melt.targets.agent import AgentBinaries

pytestmark = pytest.mark.slow

TMP = "/data/local/tmp"


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with playing("pixel-8", data_mb=64) as started:
        yield started


def test_streams_and_exit_codes_are_kept_apart(adb: Adb) -> None:
    done = adb.run("shell", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


def test_a_killed_command_ends_with_its_signal(adb: Adb) -> None:
    assert adb.run("shell", "kill -9 $$").returncode == 128 + 9


def test_input_reaches_the_command(adb: Adb) -> None:
    data = bytes(range(256)) * 4000
    done = adb.run("shell", "sha256sum", input_bytes=data)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_exec_out_carries_megabytes(adb: Adb) -> None:
    assert adb.run("exec-out", "head -c 3000000 /dev/zero").stdout == bytes(3_000_000)


def test_a_terminal_is_a_terminal(adb: Adb) -> None:
    assert adb.run("shell", "-t", "-t", "tty").stdout.startswith(b"/dev/pts/")


def test_programs_run_as_the_shell_user_of_a_phone(adb: Adb) -> None:
    assert adb.shell("id").startswith("uid=2000(shell) gid=2000(shell) groups=2000(shell),1003,1004,1007(log)")
    assert "CapEff:\t0000000000000000" in adb.shell("cat /proc/self/status")
    assert adb.shell("uname -m") == "aarch64\n"
    assert b"Read-only file system" in adb.run("shell", "touch /system/x").stderr
    copied = adb.run("shell", "cp /system/bin/toybox /sdcard/x && chmod 755 /sdcard/x && /sdcard/x")
    assert copied.returncode == 126, "the shared storage lets nothing run"
    assert adb.run("shell", "su -c id").returncode == 127


def test_files_go_there_and_back(adb: Adb, tmp_path: Path) -> None:
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.write_bytes(hashlib.sha256(b"seed").digest() * 100_000)
    sent.chmod(0o755)
    assert adb.run("push", str(sent), f"{TMP}/deep/er/file").returncode == 0
    # adbd gives group and others what the owner may
    assert re.match(r"-rwxrwxrwx +1 shell +shell +3200000 ", adb.shell(f"ls -l {TMP}/deep/er/file"))
    assert adb.run("pull", f"{TMP}/deep/er/file", str(got)).returncode == 0
    assert got.read_bytes() == sent.read_bytes()


def test_folders_and_links_go_there(adb: Adb, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/b").write_text("2")
    (folder / "link").symlink_to("sub/b")
    assert adb.run("push", str(folder), f"{TMP}/").returncode == 0
    assert adb.shell(f"cat {TMP}/folder/link {TMP}/folder/sub/b") == "22"
    assert adb.run("ls", f"{TMP}/folder").stdout.split()[-1] in (b"sub", b"link", b".", b"..")


@pytest.mark.parametrize("target", ["/system/x", "/nope/x", "/data/x"])
def test_a_push_to_a_forbidden_place_fails(adb: Adb, tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    done = adb.run("push", str(tmp_path / "file"), target)
    assert done.returncode == 1
    assert re.search(rb"Permission denied|Read-only file system", done.stdout + done.stderr)


def test_a_full_disk_fails_the_push_and_leaves_nothing(adb: Adb, phone: VirtualPhone, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    phone.fault.disk_free(1000)
    try:
        done = adb.run("push", str(tmp_path / "file"), f"{TMP}/too-big")
        assert done.returncode == 1
        assert b"No space left on device" in done.stdout + done.stderr
        assert adb.run("shell", f"ls {TMP}/too-big").returncode == 1
    finally:
        phone.fault.disk_free(None)
    assert adb.run("push", str(tmp_path / "file"), f"{TMP}/too-big").returncode == 0
    adb.shell(f"rm {TMP}/too-big")


def test_forward_reaches_a_port_of_the_phone(adb: Adb) -> None:
    adb.shell("nc -s 127.0.0.1 -p 7001 -l echo there >/dev/null 2>&1 & sleep 0.1")
    forwarded = adb.run("forward", "tcp:0", "tcp:7001")
    try:
        with socket.create_connection(("127.0.0.1", int(forwarded.stdout)), timeout=10) as connection:
            assert connection.makefile("rb").read() == b"there\n"
    finally:
        adb.run("forward", "--remove-all")


def test_reverse_reaches_a_port_of_the_host(adb: Adb) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = threading.Thread(target=_say_once, args=(listener, b"from the host\n"))
        served.start()
        try:
            port = listener.getsockname()[1]
            assert adb.run("reverse", "tcp:7002", f"tcp:{port}").returncode == 0
            # adb knows no half-closed stream: the end of nc's input would be the end of all
            held_open = f"[ -p {TMP}/held ] || mkfifo {TMP}/held; exec 3<>{TMP}/held"
            assert adb.shell(f"{held_open}; nc 127.0.0.1 7002 <&3") == "from the host\n"
            assert f"tcp:7002 tcp:{port}" in adb.run("reverse", "--list").stdout.decode()
            assert adb.run("reverse", "--remove-all").returncode == 0
        finally:
            served.join(10)


def _say_once(listener: socket.socket, text: bytes) -> None:
    listener.settimeout(10)
    connection, _ = listener.accept()
    with connection:
        connection.sendall(text)


def test_the_arm64_agent_runs(adb: Adb) -> None:
    try:
        binary = AgentBinaries.find().path("Linux", "aarch64")
    except AgentError as error:
        pytest.skip(str(error))
    assert adb.run("push", str(binary), f"{TMP}/agent").returncode == 0
    assert '"os":"linux","arch":"aarch64"' in adb.shell(f"{TMP}/agent version")


def test_clocks_begin_at_boot_and_boot_id_is_its_own(adb: Adb, phone: VirtualPhone) -> None:
    boot_id = adb.shell("cat /proc/sys/kernel/random/boot_id").strip()
    assert boot_id == phone.log()[0]["boot_id"] != Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert float(adb.shell("cat /proc/uptime").split()[0]) < 120
