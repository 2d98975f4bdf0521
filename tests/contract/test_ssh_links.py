"""What melt says and does when the way to an SSH host breaks, freezes, is refused, or comes back."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from virtual.phone.testing import eventually
from virtual.ssh_testing import serving, somebody, write_noise
from virtual.sshd import Sshd

from melt.errors import DeviceError, Gone, HostKeyError, NoSpace, Offline, TransportError, TransportTimeout, UsageError
from melt.transports import _ssh_link, _ssh_shell
from melt.transports.registry import open_transport
from melt.transports.ssh import SshTransport

pytestmark = pytest.mark.slow

QUICK_S = 8.0
"""More than any of this takes, less than anybody would call hanging."""


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with serving() as started:
        yield started


@pytest.fixture
def link(server: Sshd) -> Iterator[SshTransport]:
    transport = SshTransport(server.alias)
    yield transport
    server.thaw()
    transport.close()


@pytest.fixture
def open_link() -> Iterator[Callable[[str], SshTransport]]:
    """Open transports that are closed at the end."""
    opened: list[SshTransport] = []

    def opens(destination: str) -> SshTransport:
        opened.append(SshTransport(destination))
        return opened[-1]

    yield opens
    for transport in opened:
        transport.close()


def works(link: SshTransport) -> bool:
    return link.run(["echo", "here"], timeout_s=QUICK_S).stdout == b"here\n"


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let silence be asked about soon, and not for long."""
    monkeypatch.setattr(_ssh_shell, "_SILENCE_S", 0.3)
    monkeypatch.setattr(_ssh_link, "ALIVE_S", 0.5)
    monkeypatch.setattr(_ssh_link, "STALL_S", 0.5)


class TestBroken:
    def test_after_a_drop_the_next_call_works(self, link: SshTransport, server: Sshd) -> None:
        assert works(link)
        server.drop_links()
        began = time.monotonic()
        assert works(link)
        assert time.monotonic() - began < QUICK_S

    def test_a_drop_in_mid_run_is_told_at_once_and_may_be_retried(self, link: SshTransport, server: Sshd) -> None:
        assert works(link)
        breaker = threading.Timer(0.3, server.drop_links)
        breaker.start()
        began = time.monotonic()
        with pytest.raises(Offline, match=r"ssh:board: .*the link broke before the program ended") as caught:
            link.run(["sleep", "600"], timeout_s=60)
        assert caught.value.retryable
        assert time.monotonic() - began < QUICK_S
        breaker.join()
        assert works(link)

    def test_a_drop_ends_a_channel_with_an_error_not_with_its_end(self, link: SshTransport, server: Sshd) -> None:
        with link.open(["sh", "-c", "echo up; sleep 600"]) as channel:
            assert channel.read(10, 10) == b"up\n"
            server.drop_links()
            with pytest.raises(TransportError):
                channel.read(10, 10)
            with pytest.raises(TransportError):
                channel.write(b"x")
            assert channel.close() is None

    def test_a_drop_in_mid_push_leaves_nothing(self, link: SshTransport, server: Sshd, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(60_000_000))
        target = tmp_path / "there" / "a"

        def drop(done: int, total: int) -> None:
            if total // 2 <= done < total // 2 + 100_000:
                server.drop_links()

        with pytest.raises(TransportError):
            link.push(tmp_path / "a", str(target), progress=drop)
        eventually(lambda: not list(target.parent.iterdir()))

    def test_a_drop_in_mid_pull_leaves_nothing(self, link: SshTransport, server: Sshd, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(60_000_000))
        with pytest.raises(TransportError):
            link.pull(str(tmp_path / "a"), tmp_path / "b" / "c", progress=lambda done, total: server.drop_links())
        assert list((tmp_path / "b").iterdir()) == []

    def test_a_restart_of_the_host_is_waited_out_by_trying_again(self, link: SshTransport, server: Sshd) -> None:
        assert works(link)
        server.stop()
        try:
            with pytest.raises(Gone, match=r"127\.0\.0\.1 port \d+ refuses a connection: is its SSH server running"):
                link.run(["true"])
        finally:
            server.start()
        assert works(link)

    def test_a_configuration_that_is_broken_meanwhile_may_be_mended(
        self, open_link: Callable[[str], SshTransport]
    ) -> None:
        with serving() as server:
            link = open_link(server.alias)
            assert works(link)
            config = server.config.read_text()
            server.config.write_text(config + "    NoSuchSetting yes\n")
            server.drop_links()
            with pytest.raises(Offline, match=r"ssh:board: the configuration of board cannot be read.*nosuchset"):
                works(link)
            with pytest.raises(UsageError):
                works(open_link(server.alias))
            server.config.write_text(config)
            assert works(link)


class TestFrozen:
    def test_a_frozen_link_is_no_hang_and_thaws(self, link: SshTransport, server: Sshd) -> None:
        assert works(link)
        server.freeze()
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(TransportTimeout):
                link.run(["true"], timeout_s=0.5)
        assert time.monotonic() - began < QUICK_S
        server.thaw()
        assert works(link)

    def test_a_link_that_stays_frozen_is_made_anew(
        self, link: SshTransport, server: Sshd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert works(link)
        monkeypatch.setattr(_ssh_link, "ALIVE_S", 0.4)
        server.freeze()
        with pytest.raises(TransportTimeout, match="gives no answer"):
            link.run(["true"], timeout_s=0.5)
        assert works(link)

    def test_a_host_that_says_nothing_is_no_hang(self, open_link: Callable[[str], SshTransport]) -> None:
        with serving() as server:
            config = server.config.read_text()
            server.config.write_text(config + "    ConnectTimeout 1\n")
            server.freeze(listener=True)
            began = time.monotonic()
            with pytest.raises(TransportTimeout, match="accepts a connection but says nothing"):
                open_link("board").run(["true"], timeout_s=0.5)
            assert time.monotonic() - began < QUICK_S

    def test_freezing_in_mid_run_is_noticed_long_before_the_deadline(
        self, link: SshTransport, server: Sshd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        impatient(monkeypatch)
        assert link.run(["sleep", "1"], timeout_s=60).exit_code == 0  # silent, and alive
        with link.open(["sh", "-c", "echo up; sleep 600"]) as channel:
            assert channel.read(10, 10) == b"up\n"
            server.freeze()
            began = time.monotonic()
            with pytest.raises(TransportTimeout, match="gives no answer"):
                channel.read(10, 600)
            assert time.monotonic() - began < QUICK_S
        assert works(link)

    def test_freezing_in_mid_feed_is_noticed(
        self, link: SshTransport, server: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_bytes(bytes(100_000_000))
        impatient(monkeypatch)
        froze: list[float] = []

        def freeze(done: int, total: int) -> None:
            if done > 20_000_000 and not froze:
                server.freeze()
                froze.append(time.monotonic())

        with pytest.raises(TransportError):
            link.feed(["sh", "-c", "cat > /dev/null"], tmp_path / "a", timeout_s=60, progress=freeze)
        assert time.monotonic() - froze[0] < QUICK_S
        server.thaw()
        assert works(link)


class TestWays:
    def test_no_such_host_is_gone(self, server: Sshd, open_link: Callable[[str], SshTransport]) -> None:
        with pytest.raises(Gone, match=r"no host is called melt-nowhere\.invalid"):
            open_link("me@melt-nowhere.invalid").run(["true"])

    def test_a_host_that_hangs_up_is_offline(self, server: Sshd, open_link: Callable[[str], SshTransport]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            done = threading.Event()

            def hang_up() -> None:
                while not done.is_set():
                    busy.accept()[0].close()

            thread = threading.Thread(target=hang_up)
            thread.start()
            try:
                with pytest.raises(Offline, match="closed the connection before it said who it is"):
                    open_link(f"me@127.0.0.1:{busy.getsockname()[1]}").run(["true"])
            finally:
                done.set()
                socket.create_connection(busy.getsockname()).close()
                thread.join()

    def test_by_way_of_other_hosts(self, server: Sshd, open_link: Callable[[str], SshTransport]) -> None:
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
                return open_link("far")

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

    def test_by_a_command(self, server: Sshd, open_link: Callable[[str], SshTransport]) -> None:
        command = f"ssh -F {server.config} -W %h:%p {server.alias}"
        config = server.config.with_name("by-command")
        config.write_text(server.config.read_text() + f"    ProxyCommand {command}\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MELT_SSH_CONFIG", str(config))
            link = open_link(server.alias)
            assert works(link)
            link.close()
            config.write_text(server.config.read_text() + "    ProxyCommand false\n")
            with pytest.raises(Offline, match="closed the connection"):
                open_link(server.alias).run(["true"])

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
    def test_a_start_up_file_that_prints_and_reads(self, open_link: Callable[[str], SshTransport]) -> None:
        with somebody("bash") as (user, home), serving(user=user) as server:
            bashrc = home / ".bashrc"
            bashrc.write_text(bashrc.read_text() + "read -t 0.1 word; echo $word\n")
            seen = subprocess.run(("ssh", "-F", server.config, "board", "true"), capture_output=True, check=True)
            assert b"Welcome" in seen.stdout
            assert b"a warning" in seen.stderr
            done = open_link("board").run(["cat"], stdin=b"mine\n")
            assert (done.stdout, done.stderr) == (b"mine\n", b"")

    def test_complaints_are_english_in_every_locale(self, open_link: Callable[[str], SshTransport]) -> None:
        with serving() as server:
            write_noise(server.config.with_name("home"))
            done = open_link("board").run(["sh", "-c", "echo $LC_ALL; cat /nowhere/x"])
            assert done.stdout == b"C\n"
            assert done.stderr == b"cat: /nowhere/x: No such file or directory\n"

    def test_a_user_without_a_shell_is_told_so(self, open_link: Callable[[str], SshTransport]) -> None:
        with (
            serving(options=["ForceCommand echo Only forwarding here"]),
            pytest.raises(DeviceError, match="runs no commands for this user: it said 'Only forwarding here'"),
        ):
            open_link("board").run(["true"])

    def test_a_full_disk_is_said_and_leaves_nothing(
        self, open_link: Callable[[str], SshTransport], tmp_path: Path
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("a full disk needs root, to mount a small one")
        disk = tmp_path / "disk"
        disk.mkdir()
        (tmp_path / "big").write_bytes(bytes(8_000_000))
        mounted = f'mount -t tmpfs -o size=200k none {disk} && exec "$0" "$@"'
        with serving(enter=("unshare", "--mount", "sh", "-c", mounted)):
            link = open_link("board")
            with pytest.raises(NoSpace, match=r"disk/big: .*No space left on device; make room"):
                link.push(tmp_path / "big", f"{disk}/big")
            assert link.run(["ls", "-A", str(disk)]).stdout == b""

    def test_what_may_not_be_written_is_said(self, link: SshTransport, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        with pytest.raises(DeviceError, match=r"cannot write /proc/nowhere/a: .*/proc/nowhere"):
            link.push(tmp_path / "a", "/proc/nowhere/a")

    def test_a_signal_without_a_name_is_no_good_end(self, link: SshTransport) -> None:
        done = link.run(["sh", "-c", "kill -BUS $$"])
        assert done.exit_code == 255
        assert b"ended by a signal that the SSH server does not name" in done.stderr


class TestManyAtOnce:
    def test_more_programs_than_a_connection_may_have(self, open_link: Callable[[str], SshTransport]) -> None:
        with serving(options=["MaxSessions 2"]) as server:
            link = open_link("board")
            channels = [link.open(["cat"]) for _ in range(5)]
            for number, channel in enumerate(channels):
                channel.write(b"%d" % number)
                assert channel.read(10, 10) == b"%d" % number
            assert server.sessions() == 3
            assert [channel.close() for channel in channels] == [0] * 5
            assert works(link)

    def test_a_host_that_opens_no_session_at_all_is_said(self, open_link: Callable[[str], SshTransport]) -> None:
        with serving(options=["MaxSessions 0"]), pytest.raises(TransportError, match="opens no session: see MaxSess"):
            open_link("board").run(["true"])

    @pytest.mark.parametrize("limit", [1000, 3])
    def test_threads_never_mix(self, open_link: Callable[[str], SshTransport], limit: int) -> None:
        with serving(options=[f"MaxSessions {limit}"]):
            link = open_link("board")
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
        self, open_link: Callable[[str], SshTransport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
    ) -> None:
        """Which happens after half a gigabyte: the first model that is sent."""
        (tmp_path / "a").write_bytes(os.urandom(40_000_000))
        if who == "melt":
            monkeypatch.setattr(_ssh_link.Packets, "REKEY_BYTES", 2_000_000)
        with serving(options=["RekeyLimit 2M"] if who == "server" else []) as server:
            link = open_link("board")
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
