"""What is connected: asked in parallel, one that hangs stops nobody, and each refusal says what to do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from melt.cli.main import main
from melt.errors import Gone, HostKeyError, TransportTimeout, Unauthorized, UsageError
from melt.fleet import inventory
from melt.fleet.inventory import Entry, ask_all
from melt.fleet.look import Health, health_of
from melt.targets import linux
from melt.targets.probe import load_snapshot
from melt.targets.readers import OwnFiles, ShellFiles
from melt.telemetry.platforms import platform
from melt.transports.local import LocalTransport

SNAPSHOTS = Path(__file__).parents[1] / "data" / "snapshots"

# As adb 34 lists them.
LISTED = """\
R3CN90ABCDE\tunauthorized
emulator-5554\toffline
0123456789ABCDEF\tno permissions (missing udev rules? user is in the plugdev group); see [http://developer.android.com/tools/device.html]
28081FDH2006CR\trecovery
"""


class ScriptedServer:
    """An adb server that lists devices in states that no phone at hand can be brought into."""

    def __init__(self, listed: str) -> None:
        self._listed = listed
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, connection.makefile("rb") as said:
                    request = said.read(int(said.read(4) or b"0", 16)).decode()
                    assert request == "host:devices"
                    connection.sendall(b"OKAY%04x%b" % (len(self._listed), self._listed.encode()))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    server = ScriptedServer(LISTED)
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{server.port}")
    yield server
    server.close()


@pytest.mark.usefixtures("server")
def test_a_list_of_trusted_hosts_that_cannot_be_read_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "melt" / "known_hosts").mkdir(parents=True)
    assert main(["devices", "-o", "json"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 1 + len(LISTED.splitlines())
    assert "no trusted hosts are listed: cannot read" in said.err


@pytest.mark.usefixtures("server")
def test_devices_that_cannot_be_used_are_listed_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "-o", "json"]) == 0
    listed = {device["device"]: device for device in json.loads(capsys.readouterr().out)}
    assert list(listed) == ["local", *(f"adb:{line.partition(chr(9))[0]}" for line in LISTED.splitlines())]
    assert listed["local"]["usable"]
    for device, state, remedy in [
        ("adb:R3CN90ABCDE", "unauthorized", "unlock the phone and accept the dialog"),
        ("adb:emulator-5554", "offline", "wake the phone"),
        ("adb:0123456789ABCDEF", "no permissions", "plugdev"),
        ("adb:28081FDH2006CR", "recovery", "`adb -s 28081FDH2006CR reboot` starts Android"),
    ]:
        assert listed[device]["state"] == state
        assert not listed[device]["usable"]
        assert remedy in listed[device]["reason"]
        assert not listed[device]["reason"].startswith("adb:"), "the first column says which device it is"


@pytest.mark.usefixtures("server")
def test_the_table_names_the_selector_and_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    table, _, remedies = capsys.readouterr().out.partition("\n\n")
    assert [line.split()[0] for line in table.splitlines()[2:]][:2] == ["local", "adb:R3CN90ABCDE"]
    assert "- adb:R3CN90ABCDE: unlock the phone" in remedies


def test_without_an_adb_server_this_machine_is_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = ScriptedServer("")
    closed.close()
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.2:{closed.port}")
    assert main(["devices", "-o", "json"]) == 0
    said = capsys.readouterr()
    assert [device["device"] for device in json.loads(said.out)] == ["local"]
    assert said.err.startswith("melt: no phones are listed: ")
    assert said.err.count("\n") == 1


def test_a_device_that_hangs_does_not_stop_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_PATIENCE_S", 0.1)
    waited_for: list[str] = []
    never = threading.Event()
    errors = {
        "adb:gone": Gone("adb:gone is not connected: plug it in"),
        "adb:frozen": TransportTimeout("adb:frozen gives no answer"),
        "ssh:closed": Unauthorized("ssh:closed: takes no key of ours"),
        "ssh:new": HostKeyError("ssh:new: its key is not known"),
        "ssh:other": HostKeyError("ssh:other: its key is another one", changed=True),
        "ssh:-": UsageError("ssh: '-' is no destination"),
    }

    def ask(selector: str) -> Entry:
        if selector.endswith(":hangs"):
            never.wait(60)
        if selector in errors:
            raise errors[selector]
        return Entry(selector, "ready")

    selectors = ("adb:hangs", "ssh:hangs", *errors, "adb:fine")
    found = ask_all(selectors, ask, deadline_s=0.2, waiting=waited_for.extend)
    never.set()
    assert {selector: entry.state for selector, entry in found.items()} == {
        "adb:hangs": "silent",
        "ssh:hangs": "silent",
        "adb:gone": "unreachable",
        "adb:frozen": "silent",
        "ssh:closed": "unauthorized",
        "ssh:new": "not trusted",
        "ssh:other": "host key changed",
        "ssh:-": "error",
        "adb:fine": "ready",
    }
    assert tuple(found) == selectors
    assert waited_for == ["adb:hangs", "ssh:hangs"]
    assert found["adb:gone"].reason == "is not connected: plug it in"
    assert found["adb:hangs"].reason == "no answer within 0.2 s: unplug it and plug it in again, or restart it"
    assert "plug" not in (found["ssh:hangs"].reason or "plug")


def test_files_are_read_without_an_agent_as_they_are(tmp_path: Path) -> None:
    contents = {
        "a": b"one\n",
        "b": b"no newline at the end",
        "c": b"",
        "d": b"\n\n==> not a header\n",
        "e": b"\0\xff\n\n",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    reader = ShellFiles(LocalTransport())
    found = reader.read([f"{tmp_path}/[a-e]", f"{tmp_path}/no such*"])
    assert found == {f"{tmp_path}/{name}": data for name, data in contents.items()}
    assert len(reader.read([f"{tmp_path}/f"])[f"{tmp_path}/f"]) == 65_536
    assert reader.read([]) == {}


def test_a_shell_reads_of_this_machine_what_python_reads() -> None:
    globs = [g for g in (*linux.FACT_GLOBS, *platform("linux").GLOBS) if g.startswith("/sys/")]
    ours, theirs = OwnFiles().read(globs), ShellFiles(LocalTransport()).read(globs)
    assert set(ours) == set(theirs)


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        ("laptop-intel", Health(0.83, False, 49.05, "TCPU", 49.05)),
        ("vm-firecracker", Health()),
    ],
)
def test_a_linux_device_says_how_it_is(snapshot: str, expected: Health) -> None:
    assert health_of(platform("linux"), load_snapshot((SNAPSHOTS / f"{snapshot}.json").read_bytes())) == expected


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan"])
def test_a_wrong_timeout_is_refused(timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["devices", f"--timeout={timeout}"])
    assert ended.value.code == 2
    assert "expected seconds between 0 and 3600" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("os_name", "path"),
    [
        *(("android", path) for path in sorted((SNAPSHOTS / "android").glob("*.json"))),
        *(("macos", path) for path in sorted((SNAPSHOTS / "macos").glob("*.json"))),
        *(("linux", path) for path in sorted(SNAPSHOTS.glob("*.json"))),
    ],
    ids=lambda value: value if isinstance(value, str) else value.stem,
)
def test_what_is_not_asked_for_a_list_is_not_shown_in_it(os_name: str, path: Path) -> None:
    """Each program that is asked takes time, and may disturb a run."""
    channels, snapshot = platform(os_name), load_snapshot(path.read_bytes())
    assert set(channels.HEALTH) <= set(channels.COMMANDS)
    unasked = {f"$ {name}" for name in channels.COMMANDS if name not in channels.HEALTH}
    asked = {key: raw for key, raw in snapshot.items() if key not in unasked}
    assert health_of(channels, asked) == health_of(channels, snapshot)
