"""What every transport promises, whatever the link: `pytest --pyargs melt.testing --melt-transport NAME:ADDRESS`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from melt.errors import DeviceError, MeltError, TransportError, TransportTimeout, UsageError
from melt.testing.cases import TransportCase, parametrize
from melt.transports.base import Channel, Transport
from melt.transports.registry import open_transport

_ALL_BYTES = bytes(range(256))
_ODD_WORDS = [
    "two words",
    "it's",
    'say "hi"',
    "line\nbreak",
    "$HOME",
    "`id`",
    "$(id)",
    "*",
    "~",
    "a;b&c|d",
    "back\\slash",
    "",
    "-n",
    "Grüße, 世界",
    "!history",
    "%41",
    "tab\there",
    "#no comment",
    "{a,b}",
    "<in >out",
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test over every link that is asked for."""
    parametrize(metafunc, "transport_case", TransportCase)


@pytest.fixture(scope="module")
def transport(transport_case: TransportCase) -> Iterator[Transport]:
    """Open the link, once for all tests."""
    opened = open_transport(transport_case.name)
    yield opened
    opened.close()


class _OnADevice:
    @pytest.fixture
    def remote(self, transport: Transport) -> Iterator[str]:
        """Return a fresh folder on the device."""
        made = transport.run(["mktemp", "-d"])
        assert made.exit_code == 0
        path = made.stdout.decode().strip()
        yield path
        transport.run(["rm", "-rf", "--", path])


class TestRun(_OnADevice):
    """Programs that run to their end."""

    def test_streams_and_exit_code_are_kept_apart(self, transport: Transport) -> None:
        done = transport.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
        assert (done.exit_code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
        assert done.argv[0] == "sh"

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
    def test_a_signal_is_a_negative_code(self, transport: Transport, number: int) -> None:
        assert transport.run(["sh", "-c", f"kill -{int(number)} $$"]).exit_code == -number

    def test_a_missing_program_is_127(self, transport: Transport) -> None:
        done = transport.run(["/nowhere/no-such-program"])
        assert done.exit_code == 127
        assert b"no-such-program" in done.stderr

    def test_a_file_that_may_not_run_is_126(self, transport: Transport, remote: str) -> None:
        transport.run(["touch", f"{remote}/plain"])
        assert transport.run([f"{remote}/plain"]).exit_code == 126
        assert transport.run([remote]).exit_code == 126

    def test_stdin_and_stdout_carry_any_byte(self, transport: Transport) -> None:
        assert transport.run(["cat"], stdin=_ALL_BYTES * 3).stdout == _ALL_BYTES * 3

    def test_without_stdin_a_program_meets_its_end(self, transport: Transport) -> None:
        assert transport.run(["cat"]).stdout == b""

    def test_much_output_both_ways_does_not_block(self, transport: Transport) -> None:
        data = os.urandom(1 << 20) * 4
        assert transport.run(["cat"], stdin=data).stdout == data

    def test_stdin_that_nobody_reads_is_no_error(self, transport: Transport) -> None:
        assert transport.run(["true"], stdin=b"x" * (1 << 20)).exit_code == 0

    def test_each_odd_word_arrives_as_it_is(self, transport: Transport) -> None:
        done = transport.run(["printf", "%s\\0", *_ODD_WORDS])
        assert done.stdout.decode().split("\0")[:-1] == _ODD_WORDS

    def test_a_zero_byte_or_nothing_to_run_is_refused(self, transport: Transport) -> None:
        with pytest.raises(UsageError):
            transport.run(["printf", "a\0b"])
        with pytest.raises(UsageError):
            transport.run([])

    def test_the_deadline_kills_the_program_and_its_children(self, transport: Transport, remote: str) -> None:
        began = time.monotonic()
        with pytest.raises(TransportTimeout, match=r"sh did not end within 0\.3 s"):
            transport.run(["sh", "-c", f"sleep 600 & echo $! > {remote}/pid; wait"], timeout_s=0.3)
        assert time.monotonic() - began < 5
        pid = transport.run(["cat", f"{remote}/pid"]).stdout.decode().strip()
        _wait_until(lambda: transport.run(["kill", "-0", pid]).exit_code != 0, "the child is gone")

    def test_a_daemon_outlives_the_command_that_started_it(self, transport: Transport, remote: str) -> None:
        daemon = f"(setsid sh -c 'while [ ! -e {remote}/go ]; do sleep 0.01; done; echo here > {remote}/done' "
        daemon += "</dev/null >/dev/null 2>&1 &)"
        assert transport.run(["sh", "-c", daemon], timeout_s=10).exit_code == 0
        transport.run(["touch", f"{remote}/go"])
        _wait_until(lambda: transport.run(["cat", f"{remote}/done"]).stdout == b"here\n", "the daemon wrote")


class TestChannel(_OnADevice):
    """Programs that the host talks with."""

    def test_echo(self, transport: Transport) -> None:
        with transport.open(["cat"]) as channel:
            for word in (b"one", _ALL_BYTES):
                channel.write(word)
                assert channel.read(65536, 10) == word
            assert channel.close() == 0

    def test_nothing_to_read_is_none_at_the_deadline(self, transport: Transport) -> None:
        with transport.open(["cat"]) as channel:
            began = time.monotonic()
            assert channel.read(10, 0.05) is None
            assert 0.03 < time.monotonic() - began < 5
            assert channel.read(10, 0) is None

    def test_the_end_is_empty_and_stays_so(self, transport: Transport) -> None:
        with transport.open(["echo", "bye"]) as channel:
            assert _read_all(channel) == b"bye\n"
            assert channel.read(10, 1) == b""
            assert channel.close() == 0

    def test_read_takes_no_more_than_asked(self, transport: Transport) -> None:
        with transport.open(["printf", "abcdef"]) as channel:
            first = channel.read(4, 10)
            assert first == b"abcd"
            assert _read_all(channel) == b"ef"

    def test_large_output(self, transport: Transport) -> None:
        with transport.open(["head", "-c", "5000000", "/dev/zero"]) as channel:
            assert len(_read_all(channel)) == 5_000_000

    def test_close_ends_a_program_that_goes_on(self, transport: Transport) -> None:
        channel = transport.open(["sleep", "600"])
        began = time.monotonic()
        assert channel.close() != 0
        assert time.monotonic() - began < 5
        assert channel.read(10, 1) == b""

    def test_close_ends_a_program_that_ignores_sigterm(self, transport: Transport) -> None:
        channel = transport.open(["sh", "-c", "trap '' TERM; echo set; while :; do sleep 0.1; done"])
        assert channel.read(10, 10) == b"set\n"
        assert channel.close() not in (0, None)

    def test_close_twice_says_the_same(self, transport: Transport) -> None:
        channel = transport.open(["sh", "-c", "exit 3"])
        assert _read_all(channel) == b""
        assert channel.close() == channel.close() == 3

    def test_writing_to_a_program_that_is_gone(self, transport: Transport) -> None:
        with transport.open(["true"]) as channel:
            assert _read_all(channel) == b""
            with pytest.raises(TransportError):
                channel.write(bytes(16 << 20))

    def test_writing_after_close(self, transport: Transport) -> None:
        channel = transport.open(["cat"])
        channel.close()
        with pytest.raises(TransportError):
            channel.write(b"x")


class TestFiles(_OnADevice):
    """Files, there and back."""

    @pytest.mark.parametrize("size", [0, 1, 65_537, 3_000_000])
    def test_round_trip(self, transport: Transport, remote: str, tmp_path: Path, size: int) -> None:
        (tmp_path / "a").write_bytes(os.urandom(size))
        transport.push(tmp_path / "a", f"{remote}/there")
        transport.pull(f"{remote}/there", tmp_path / "b")
        assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()

    def test_the_mode_is_the_one_asked_for(self, transport: Transport, remote: str, tmp_path: Path) -> None:
        (tmp_path / "tool").write_text("#!/bin/sh\necho ran\n")
        transport.push(tmp_path / "tool", f"{remote}/tool", mode=0o755)
        assert transport.run([f"{remote}/tool"]).stdout == b"ran\n"
        transport.push(tmp_path / "tool", f"{remote}/tool")
        assert transport.run([f"{remote}/tool"]).exit_code == 126

    def test_odd_names_and_new_folders(self, transport: Transport, remote: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        name = f"{remote}/new folder/it's $HOME * Grüße"
        transport.push(tmp_path / "a", name)
        assert transport.run(["cat", name]).stdout == b"x"
        transport.pull(name, tmp_path / "deep" / "b")
        assert (tmp_path / "deep" / "b").read_bytes() == b"x"

    def test_a_file_of_proc_can_be_pulled(self, transport: Transport, tmp_path: Path) -> None:
        transport.pull("/proc/version", tmp_path / "version")
        assert (tmp_path / "version").read_bytes().startswith(b"Linux")

    def test_progress_ends_at_the_whole(self, transport: Transport, remote: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(1_000_000))
        seen: list[tuple[int, int]] = []
        transport.push(tmp_path / "a", f"{remote}/a", progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (1_000_000, 1_000_000)
        assert seen == sorted(seen)

    def test_what_is_missing_is_named_and_leaves_nothing(
        self, transport: Transport, remote: str, tmp_path: Path
    ) -> None:
        with pytest.raises(MeltError, match="gone"):
            transport.push(tmp_path / "gone", f"{remote}/a")
        with pytest.raises(DeviceError, match="gone"):
            transport.pull(f"{remote}/gone", tmp_path / "b")
        assert transport.run(["ls", "-A", remote]).stdout == b""
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_is_not_overwritten(self, transport: Transport, remote: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        with pytest.raises(DeviceError):
            transport.push(tmp_path / "a", remote)

    def test_who_has_the_old_file_open_keeps_it_whole(self, transport: Transport, remote: str, tmp_path: Path) -> None:
        for word in (b"old", b"new"):
            (tmp_path / word.decode()).write_bytes(word * 1000)
        transport.push(tmp_path / "old", f"{remote}/f")
        with transport.open(["sh", "-c", f"exec 3<{remote}/f; echo open; read go; cat <&3"]) as channel:
            assert channel.read(10, 10) == b"open\n"
            transport.push(tmp_path / "new", f"{remote}/f")
            channel.write(b"go\n")
            assert _read_all(channel) == b"old" * 1000
        assert transport.run(["cat", f"{remote}/f"]).stdout == b"new" * 1000
        assert transport.run(["ls", "-A", remote]).stdout == b"f\n"


class TestFeed(_OnADevice):
    """A file as the stdin of a program."""

    @pytest.mark.parametrize(("size", "offset"), [(0, 0), (1, 0), (3_000_000, 0), (3_000_000, 1), (300_000, 300_000)])
    def test_the_rest_of_a_file_is_the_stdin(
        self, transport: Transport, remote: str, tmp_path: Path, size: int, offset: int
    ) -> None:
        data = os.urandom(size)
        (tmp_path / "a").write_bytes(data)
        seen: list[tuple[int, int]] = []
        take = f"head -c {size - offset} > {remote}/there; echo out; echo err >&2; exit 3"
        done = transport.feed(
            ["sh", "-c", take],
            tmp_path / "a",
            offset=offset,
            timeout_s=10,
            progress=lambda done, total: seen.append((done, total)),
        )
        assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
        transport.pull(f"{remote}/there", tmp_path / "b")
        assert (tmp_path / "b").read_bytes() == data[offset:]
        assert seen == sorted(seen)
        assert not seen or seen[-1] == (size, size)

    def test_a_program_that_has_enough_says_why(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(20_000_000))
        done = transport.feed(["sh", "-c", "head -c 5; echo enough >&2; exit 1"], tmp_path / "a", timeout_s=10)
        assert (done.exit_code, done.stdout, done.stderr) == (1, bytes(5), b"enough\n")

    def test_a_program_that_is_not_there(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        assert transport.feed(["/nowhere/no-such-program"], tmp_path / "a", timeout_s=10).exit_code == 127

    def test_a_file_that_is_not_there_is_named(self, transport: Transport, tmp_path: Path) -> None:
        with pytest.raises(MeltError, match="gone"):
            transport.feed(["true"], tmp_path / "gone", timeout_s=10)

    def test_silence_ends_it_and_its_children(self, transport: Transport, remote: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(5_000_000))
        command = f"echo $$ > {remote}/pid; sleep 600 & wait"
        with pytest.raises(TransportTimeout, match=r"sh took nothing and said nothing for 0\.3 s"):
            transport.feed(["sh", "-c", command], tmp_path / "a", timeout_s=0.3)
        pid = transport.run(["cat", f"{remote}/pid"]).stdout.decode().strip()
        _wait_until(lambda: transport.run(["kill", "-0", pid]).exit_code != 0, "the program is gone")

    def test_slow_is_not_silent(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        slow = "for i in 1 2 3 4; do sleep 0.2; echo $i; done; exit 0"
        assert transport.feed(["sh", "-c", slow], tmp_path / "a", timeout_s=0.5).stdout == b"1\n2\n3\n4\n"


def _wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"still not: {what}"
        time.sleep(0.01)


def _read_all(channel: Channel) -> bytes:
    parts = []
    while data := channel.read(65536, 10):
        parts.append(data)
    assert data == b"", "the channel fell silent before its end"
    return b"".join(parts)
