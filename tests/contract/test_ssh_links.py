"""What melt says and does when the link to an SSH host breaks, freezes, or comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from virtual.phone.testing import eventually
from virtual.ssh_testing import QUICK_S, serving, works
from virtual.sshd import Sshd

from melt.errors import Gone, Offline, TransportError, TransportTimeout, UsageError
from melt.transports import _ssh_link, _ssh_shell
from melt.transports.ssh import SshTransport

pytestmark = pytest.mark.slow


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
        self, open_ssh: Callable[[str], SshTransport]
    ) -> None:
        with serving() as server:
            link = open_ssh(server.alias)
            assert works(link)
            config = server.config.read_text()
            server.config.write_text(config + "    NoSuchSetting yes\n")
            server.drop_links()
            with pytest.raises(Offline, match=r"ssh:board: the configuration of board cannot be read.*nosuchset"):
                works(link)
            with pytest.raises(UsageError):
                works(open_ssh(server.alias))
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

    def test_a_host_that_says_nothing_is_no_hang(self, open_ssh: Callable[[str], SshTransport]) -> None:
        with serving() as server:
            config = server.config.read_text()
            server.config.write_text(config + "    ConnectTimeout 1\n")
            server.freeze(listener=True)
            began = time.monotonic()
            with pytest.raises(TransportTimeout, match="accepts a connection but says nothing"):
                open_ssh("board").run(["true"], timeout_s=0.5)
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
