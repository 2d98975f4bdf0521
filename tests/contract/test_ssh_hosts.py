"""SSH hosts as they come: behind other hosts, refused, with noise, with limits, asked many things at once."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from virtual.ssh_testing import serving, somebody, works, write_noise
from virtual.sshd import Sshd

from melt.errors import DeviceError, Gone, HostKeyError, NoSpace, Offline, TransportError, UsageError
from melt.transports import _ssh_link
from melt.transports.registry import open_transport
from melt.transports.ssh import SshTransport

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with serving() as started:
        yield started


class TestWays:
    def test_no_such_host_is_gone(self, server: Sshd, open_ssh: Callable[[str], SshTransport]) -> None:
        with pytest.raises(Gone, match=r"no host is called melt-nowhere\.invalid"):
            open_ssh("me@melt-nowhere.invalid").run(["true"])

    def test_a_host_that_hangs_up_is_offline(self, server: Sshd, open_ssh: Callable[[str], SshTransport]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            done = threading.Event()

            def hang_up() -> None:
                while not done.is_set():
                    busy.accept()[0].close()

            thread = threading.Thread(target=hang_up)
            thread.start()
            try:
                with pytest.raises(Offline, match="closed the connection before it said who it is"):
                    open_ssh(f"me@127.0.0.1:{busy.getsockname()[1]}").run(["true"])
            finally:
                done.set()
                socket.create_connection(busy.getsockname()).close()
                thread.join()

    def test_by_way_of_other_hosts(self, server: Sshd, open_ssh: Callable[[str], SshTransport]) -> None:
        with (
            serving(alias="inner") as inner,
            serving(alias="far") as far,
            pytest.MonkeyPatch.context() as patch,
        ):
            config = far.config.with_name("way")
            patch.setenv("MELT_SSH_CONFIG", str(config))

            def way(jumps: str) -> SshTransport:
                hosts = "".join(each.config.read_text() for each in (server, inner, far))
                config.write_text(f"{hosts}    ProxyJump {jumps}\n")
                return open_ssh("far")

            link = way("board")
            assert link.run(["cat"], stdin=bytes(3_000_000)).stdout == bytes(3_000_000)
            assert (server.sessions(), inner.sessions(), far.sessions()) == (1, 0, 1)
            server.drop_links()
            assert works(link)
            link.close()
            assert works(way(f"board,{inner.user}@inner"))
            assert (server.sessions(), inner.sessions(), far.sessions()) == (1, 1, 1)
            with pytest.raises(UsageError, match="does ProxyJump go round"):
                way("far").run(["true"])
            inner.known_hosts.unlink()
            with pytest.raises(HostKeyError, match=r"ssh:inner is not known here.*`melt devices trust inner`"):
                way("inner").run(["true"])
            far.stop()
            with pytest.raises(Gone, match=r"ssh:far: .* cannot be reached from board: "):
                way("board").run(["true"])

    def test_by_a_command(self, server: Sshd, open_ssh: Callable[[str], SshTransport]) -> None:
        command = f"ssh -F {server.config} -W %h:%p {server.alias}"
        config = server.config.with_name("by-command")
        config.write_text(server.config.read_text() + f"    ProxyCommand {command}\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MELT_SSH_CONFIG", str(config))
            link = open_ssh(server.alias)
            assert works(link)
            link.close()
            config.write_text(server.config.read_text() + "    ProxyCommand false\n")
            with pytest.raises(Offline, match="closed the connection"):
                open_ssh(server.alias).run(["true"])

    def test_an_alias_of_an_included_file_will_do(self, server: Sshd) -> None:
        outer = server.config.with_name("outer")
        outer.write_text(f"Include {server.config}\nHost *\n    Compression no\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MELT_SSH_CONFIG", str(outer))
            link = open_transport("board")
            assert link.name == "ssh:board"
            assert link.run(["true"]).exit_code == 0
            link.close()


class TestHosts:
    def test_a_start_up_file_that_prints_and_reads(self, open_ssh: Callable[[str], SshTransport]) -> None:
        with somebody("bash") as (user, home), serving(user=user) as server:
            bashrc = home / ".bashrc"
            bashrc.write_text(bashrc.read_text() + "read -t 0.1 word; echo $word\n")
            seen = subprocess.run(("ssh", "-F", server.config, "board", "true"), capture_output=True, check=True)
            assert b"Welcome" in seen.stdout
            assert b"a warning" in seen.stderr
            done = open_ssh("board").run(["cat"], stdin=b"mine\n")
            assert (done.stdout, done.stderr) == (b"mine\n", b"")

    def test_complaints_are_english_in_every_locale(self, open_ssh: Callable[[str], SshTransport]) -> None:
        with serving() as server:
            write_noise(server.config.with_name("home"))
            done = open_ssh("board").run(["sh", "-c", "echo $LC_ALL; cat /nowhere/x"])
            assert done.stdout == b"C\n"
            assert done.stderr == b"cat: /nowhere/x: No such file or directory\n"

    def test_a_user_without_a_shell_is_told_so(self, open_ssh: Callable[[str], SshTransport]) -> None:
        with (
            serving(options=["ForceCommand echo Only forwarding here"]),
            pytest.raises(DeviceError, match="runs no commands for this user: it said 'Only forwarding here'"),
        ):
            open_ssh("board").run(["true"])

    def test_a_full_disk_is_said_and_leaves_nothing(
        self, open_ssh: Callable[[str], SshTransport], tmp_path: Path
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("a full disk needs root, to mount a small one")
        disk = tmp_path / "disk"
        disk.mkdir()
        (tmp_path / "big").write_bytes(bytes(8_000_000))
        mounted = f'mount -t tmpfs -o size=200k none {disk} && exec "$0" "$@"'
        with serving(enter=("unshare", "--mount", "sh", "-c", mounted)):
            link = open_ssh("board")
            with pytest.raises(NoSpace, match=r"disk/big: .*No space left on device; make room"):
                link.push(tmp_path / "big", f"{disk}/big")
            assert link.run(["ls", "-A", str(disk)]).stdout == b""

    def test_what_may_not_be_written_is_said(
        self, server: Sshd, open_ssh: Callable[[str], SshTransport], tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_bytes(b"x")
        with pytest.raises(DeviceError, match=r"cannot write /proc/nowhere/a: .*/proc/nowhere"):
            open_ssh(server.alias).push(tmp_path / "a", "/proc/nowhere/a")

    def test_a_signal_without_a_name_is_no_good_end(
        self, server: Sshd, open_ssh: Callable[[str], SshTransport]
    ) -> None:
        done = open_ssh(server.alias).run(["sh", "-c", "kill -BUS $$"])
        assert done.exit_code == 255
        assert b"ended by a signal that the SSH server does not name" in done.stderr


class TestManyAtOnce:
    def test_more_programs_than_a_connection_may_have(self, open_ssh: Callable[[str], SshTransport]) -> None:
        with serving(options=["MaxSessions 2"]) as server:
            link = open_ssh("board")
            channels = [link.open(["cat"]) for _ in range(5)]
            for number, channel in enumerate(channels):
                channel.write(b"%d" % number)
                assert channel.read(10, 10) == b"%d" % number
            assert server.sessions() == 3
            assert [channel.close() for channel in channels] == [0] * 5
            assert works(link)

    def test_a_host_that_opens_no_session_at_all_is_said(self, open_ssh: Callable[[str], SshTransport]) -> None:
        with serving(options=["MaxSessions 0"]), pytest.raises(TransportError, match="opens no session: see MaxSess"):
            open_ssh("board").run(["true"])

    @pytest.mark.parametrize("limit", [1000, 3])
    def test_threads_never_mix(self, open_ssh: Callable[[str], SshTransport], limit: int) -> None:
        with serving(options=[f"MaxSessions {limit}"]):
            link = open_ssh("board")
            wrong: list[object] = []

            def ask(number: int) -> None:
                try:
                    for turn in range(10):
                        data = b"%d %d\n" % (number, turn) * 20_000
                        done = link.run(["cat"], stdin=data)
                        if done.stdout != data or done.stderr:
                            wrong.append(done)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is told below
                    wrong.append(error)

            threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not wrong

    @pytest.mark.parametrize("who", ["melt", "server"])
    def test_keys_are_exchanged_anew_in_the_midst_of_it(
        self, open_ssh: Callable[[str], SshTransport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
    ) -> None:
        """Which happens after half a gigabyte: the first model that is sent."""
        (tmp_path / "a").write_bytes(os.urandom(40_000_000))
        if who == "melt":
            monkeypatch.setattr(_ssh_link.Packets, "REKEY_BYTES", 2_000_000)
        with serving(options=["RekeyLimit 2M"] if who == "server" else []) as server:
            link = open_ssh("board")
            done = threading.Event()
            wrong: list[object] = []

            def ask() -> None:
                while not done.is_set():
                    try:
                        if link.run(["cat"], stdin=b"x" * 5000).stdout != b"x" * 5000:
                            wrong.append("mixed")
                    except Exception as error:  # noqa: BLE001 - whatever it is, it is told below
                        wrong.append(error)

            threads = [threading.Thread(target=ask) for _ in range(3)]
            for thread in threads:
                thread.start()
            try:
                link.push(tmp_path / "a", str(tmp_path / "b"))
                link.pull(str(tmp_path / "b"), tmp_path / "c")
            finally:
                done.set()
                for thread in threads:
                    thread.join()
            assert not wrong
            assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()
            assert server.sessions() == 1
