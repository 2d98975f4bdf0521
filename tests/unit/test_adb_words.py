"""What is written to adb, and what its answers mean: no phone needed."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.cli import quality, quants
from melt.cli._adbargs import add_adb_argument
from melt.errors import Gone, Offline, TransportError, Unauthorized, UsageError
from melt.transports._adb_server import Server, _from_environment, refusal
from melt.transports._adb_shell import _exit_code, quoted
from melt.transports._argv import checked
from melt.transports.registry import resolve


@settings(max_examples=3 * settings.default.max_examples // 5)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=5))
@pytest.mark.parametrize("shell", ["mksh", "sh"])
def test_a_shell_hands_every_word_on_as_it_is(shell: str, words: list[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    command = "exec " + quoted(["printf", "%s\\0", *words])
    done = subprocess.run([shell, "-c", command], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


def test_what_no_program_can_be_given_is_refused() -> None:
    with pytest.raises(UsageError, match="zero byte"):
        checked(["printf", "a\0b"], "adb")
    with pytest.raises(UsageError, match="at least the name"):
        checked([], "adb")


@pytest.mark.parametrize(("said", "means"), [(0, 0), (1, 1), (127, 127), (137, -9), (143, -15), (192, -64), (255, 255)])
def test_exit_codes(said: int, means: int) -> None:
    assert _exit_code(said) == means


@pytest.mark.parametrize(
    ("text", "kind", "retryable"),
    [
        ("device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", Unauthorized, False),
        ("device still authorizing", Offline, True),
        ("device offline", Offline, True),
        ("device still connecting", Offline, True),
        ("device '0A041FDD4003FN' not found", Gone, True),
        ("no devices/emulators found", Gone, True),
        ("insufficient permissions for device: udev requires plugdev group membership", TransportError, True),
        ("closed", TransportError, True),
        ("Unknown data: b''", TransportError, True),
        ("", TransportError, True),
    ],
)
def test_refusals_are_typed_and_one_sentence(text: str, kind: type[TransportError], retryable: bool) -> None:
    error = refusal("adb:X", text)
    assert type(error) is kind
    assert error.retryable is retryable
    assert "\n" not in str(error)
    assert "adb:X" in str(error)


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, ("127.0.0.1", 5037)),
        ({"ANDROID_ADB_SERVER_PORT": "5038"}, ("127.0.0.1", 5038)),
        ({"ANDROID_ADB_SERVER_ADDRESS": "lab", "ANDROID_ADB_SERVER_PORT": "5038"}, ("lab", 5038)),
        ({"ADB_SERVER_SOCKET": "tcp:5039", "ANDROID_ADB_SERVER_PORT": "5038"}, ("127.0.0.1", 5039)),
        ({"ADB_SERVER_SOCKET": "tcp:lab:5039"}, ("lab", 5039)),
        ({"ADB_SERVER_SOCKET": "tcp:[::1]:5039"}, ("::1", 5039)),
    ],
)
def test_the_server_is_where_the_environment_says(environment: dict[str, str], address: tuple[str, int]) -> None:
    assert _from_environment(environment) == address


@pytest.mark.parametrize("text", ["tcp:lab", "local:/x", "tcp:lab:0", "tcp:lab:70000"])
def test_a_wrong_server_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="ADB_SERVER_SOCKET"):
        _from_environment({"ADB_SERVER_SOCKET": text})


def test_a_wrong_address_is_refused() -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        Server.find("lab")


@pytest.mark.parametrize(
    ("word", "selector"),
    [("local", "local"), ("adb:X@lab:5037", "adb:X@lab:5037"), ("192.168.1.7:5555", "adb:192.168.1.7:5555")],
)
def test_selectors_that_need_no_server(word: str, selector: str) -> None:
    assert resolve(word) == selector


def test_a_word_that_nobody_knows_asks_no_server_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:127.0.0.1:1")
    with pytest.raises(UsageError, match=r"unknown device 'PHONE1': known: adb, local"):
        resolve("PHONE1")


def test_the_server_may_be_named_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:5037")
    parser = argparse.ArgumentParser()
    add_adb_argument(parser)
    parser.parse_args(["--adb-server", "lab:5038"])
    assert Server.find().address == "lab:5038"
    with pytest.raises(SystemExit):
        parser.parse_args(["--adb-server", "lab"])
    assert "expected HOST:PORT, found 'lab'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [quality, quants])
def test_verbs_that_score_or_measure_on_phones_take_the_server(
    verb: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:5037")
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    parser.parse_args(["tiny-pydoc", "--device", "adb:PHONE1", "--adb-server", "lab:5038"])
    assert Server.find().address == "lab:5038"
