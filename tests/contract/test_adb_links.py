"""What melt says and does when the way to a phone breaks, freezes, is closed, or comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual.phone import VirtualPhone
from virtual.phone.clients import AdbServer
from virtual.phone.testing import CLIENT_PARAMS, adb_server, eventually, playing

from melt.errors import Gone, NoSpace, Offline, TransportError, TransportTimeout, Unauthorized, UsageError
from melt.transports import _adb_shell, adb
from melt.transports.adb import AdbTransport, connected
from melt.transports.registry import open_transport, resolve

pytestmark = pytest.mark.slow

QUICK_S = 8.0
"""More than any of this takes, less than anybody would call hanging."""


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with playing("pixel-8", data_mb=64, boot_s=0.2) as started:
        yield started


@pytest.fixture(scope="module")
def other() -> Iterator[VirtualPhone]:
    with playing("mi-a1", data_mb=64) as started:
        yield started


@pytest.fixture
def link(server: AdbServer, phone: VirtualPhone) -> AdbTransport:
    return AdbTransport(phone.address, f"127.0.0.1:{server.port}")


def works(link: AdbTransport) -> bool:
    return link.run(["echo", "here"], timeout_s=QUICK_S).stdout == b"here\n"


def works_by_the_second_call(link: AdbTransport) -> None:
    """The first one may be the one that meets the break."""
    assert tried(link) or works(link)


def tried(link: AdbTransport) -> bool:
    """Whether a call works; that it fails for good is an error."""
    try:
        return works(link)
    except TransportError as error:
        if not error.retryable:
            raise
        return False


def allowed(link: AdbTransport) -> bool:
    try:
        return tried(link)
    except Unauthorized:
        return False


def test_a_wifi_phone_is_connected_by_the_first_call(link: AdbTransport, server: AdbServer) -> None:
    server.run("disconnect")
    assert works(link)


def test_after_a_drop_a_call_works_at_once(link: AdbTransport, phone: VirtualPhone) -> None:
    assert works(link)
    phone.fault.drop()
    began = time.monotonic()
    works_by_the_second_call(link)
    assert time.monotonic() - began < QUICK_S


def test_a_drop_in_mid_run_is_told_at_once_and_may_be_retried(link: AdbTransport, phone: VirtualPhone) -> None:
    before = len(phone.log())
    breaker = threading.Thread(
        target=lambda: (
            phone.wait_event("open", after=before, where=lambda e: "600" in e["service"]),
            phone.fault.drop(),
        )
    )
    assert works(link)
    breaker.start()
    began = time.monotonic()
    with pytest.raises(TransportError, match="the link broke before the program ended") as caught:
        link.run(["sleep", "600"], timeout_s=60)
    assert caught.value.retryable
    assert time.monotonic() - began < QUICK_S
    breaker.join()
    assert works(link)


def test_a_drop_ends_a_channel_with_an_error_not_with_its_end(link: AdbTransport, phone: VirtualPhone) -> None:
    with link.open(["sh", "-c", "echo up; sleep 600"]) as channel:
        assert channel.read(10, 10) == b"up\n"
        phone.fault.drop()
        with pytest.raises(TransportError):
            channel.read(10, 10)
        assert channel.close() is None


def test_a_frozen_link_is_no_hang(link: AdbTransport, phone: VirtualPhone) -> None:
    assert works(link)
    phone.fault.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(TransportTimeout):
            link.run(["true"], timeout_s=0.5)
        with pytest.raises(TransportError):
            link.run(["true"], timeout_s=0.5)
        assert time.monotonic() - began < 2 * QUICK_S
    finally:
        phone.fault.thaw()
    eventually(lambda: tried(link))


def test_a_link_that_freezes_in_mid_run_is_noticed_long_before_the_deadline(
    link: AdbTransport, phone: VirtualPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_adb_shell, "_SILENCE_S", 0.3)
    monkeypatch.setattr(adb, "_ALIVE_S", 0.5)
    assert link.run(["sleep", "1"], timeout_s=60).exit_code == 0  # silent, and alive
    with link.open(["sh", "-c", "echo up; sleep 600"]) as channel:
        assert channel.read(10, 10) == b"up\n"
        phone.fault.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(TransportTimeout, match="gives no answer"):
                channel.read(10, 600)
            assert time.monotonic() - began < QUICK_S
        finally:
            phone.fault.thaw()
    eventually(lambda: tried(link))


def test_who_is_not_allowed_is_told_what_to_tap(link: AdbTransport, phone: VirtualPhone) -> None:
    phone.fault.unauthorized()
    phone.fault.drop()
    said: list[Unauthorized] = []

    def refused() -> bool:
        # The call that meets the break may still say that the phone is offline or gone.
        try:
            link.run(["true"])
        except Unauthorized as error:
            said.append(error)
        except (Offline, Gone):
            pass
        return bool(said)

    try:
        eventually(refused)
    finally:
        phone.fault.authorize()
    assert "unlock the phone and accept" in str(said[0])
    assert not said[0].retryable
    eventually(lambda: allowed(link))


def test_a_full_disk_is_said_and_leaves_nothing(link: AdbTransport, phone: VirtualPhone, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(8_000_000))
    folder = link.run(["mktemp", "-d"]).stdout.decode().strip()
    phone.fault.disk_free(2000)
    try:
        with pytest.raises(NoSpace, match=r"big.*No space left on device"):
            link.push(tmp_path / "big", f"{folder}/big")
    finally:
        phone.fault.disk_free()
    assert link.run(["ls", "-A", folder]).stdout == b""


def test_two_phones_never_mix(server: AdbServer, phone: VirtualPhone, other: VirtualPhone) -> None:
    links = [AdbTransport(each.address, f"127.0.0.1:{server.port}") for each in (phone, other)]
    expected = [link.run(["getprop", "ro.serialno"]).stdout for link in links]
    assert expected[0] != expected[1]
    wrong: list[object] = []

    def ask(index: int) -> None:
        for _ in range(10):
            done = links[index].run(["sh", "-c", "cat; getprop ro.serialno"], stdin=b"%d\n" % index)
            if done.stdout != b"%d\n%b" % (index, expected[index]):
                wrong.append(done)

    threads = [threading.Thread(target=ask, args=(number % 2,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_serial_alone_will_do(
    server: AdbServer, phone: VirtualPhone, other: VirtualPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.connect(phone.address)
    server.connect(other.address)
    for name in ("ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:127.0.0.1:{server.port}")
    assert resolve(phone.address) == f"adb:{phone.address}"
    assert open_transport(phone.address).run(["true"]).exit_code == 0
    assert {each.serial: each.state for each in connected()}[other.address] == "device"
    with pytest.raises(UsageError, match=rf"unknown device 'PHONE1'.*connected phones: .*{phone.address}"):
        resolve("PHONE1")


def test_a_phone_that_is_gone_is_said_to_be_gone(server: AdbServer) -> None:
    with pytest.raises(Gone, match=r"adb:NOSUCHPHONE@.* is not connected") as caught:
        AdbTransport("NOSUCHPHONE", f"127.0.0.1:{server.port}").run(["true"], timeout_s=1)
    assert caught.value.retryable
    with playing("mi-a1", data_mb=16) as phone:
        link = AdbTransport(phone.address, f"127.0.0.1:{server.port}")
        assert works(link)
    began = time.monotonic()
    with pytest.raises(TransportError) as lost:
        link.run(["true"])
    assert lost.value.retryable
    assert time.monotonic() - began < QUICK_S


@pytest.mark.parametrize("client", CLIENT_PARAMS)
def test_a_server_that_was_ended_is_started_again(client: str, phone: VirtualPhone) -> None:
    with adb_server(client) as server:
        link = AdbTransport(phone.address, f"127.0.0.1:{server.port}")
        assert works(link)
        server.run("kill-server")
        try:
            works_by_the_second_call(link)
        finally:
            server.run("kill-server")


def test_a_server_elsewhere_that_does_not_answer_is_named() -> None:
    with pytest.raises(
        TransportError, match=r"the adb server at 127\.0\.0\.2:1|no adb server answers at 127\.0\.0\.2:1"
    ):
        AdbTransport("X", "127.0.0.2:1").run(["true"])
