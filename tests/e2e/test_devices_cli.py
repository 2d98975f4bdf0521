"""`melt devices` against phones in many states, through the real adb: it leaves nothing on them, and none stops it."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from melt_rig import Melt
from virtual.phone import VirtualPhone
from virtual.phone.clients import AdbServer, adb_programs
from virtual.phone.testing import CLIENTS, adb_server, playing

pytestmark = pytest.mark.slow  # each phone is a user space of its own


@pytest.fixture(params=CLIENTS)
def adb(request: pytest.FixtureRequest, melt: Melt) -> Iterator[AdbServer]:
    with adb_server(request.param) as server:
        melt.env["ADB_SERVER_SOCKET"] = f"tcp:127.0.0.1:{server.port}"
        yield server


def _listed(melt: Melt, *words: str) -> dict[str, dict[str, object]]:
    return {device["device"]: device for device in json.loads(melt("devices", "-o", "json", *words).stdout)}


def test_phones_of_several_makers_in_several_states(melt: Melt, adb: AdbServer) -> None:
    with ExitStack() as stack:
        pixel, samsung, frozen, stranger = (
            stack.enter_context(playing(profile)) for profile in ("pixel-8", "galaxy-s21", "mi-a1", "locked-down")
        )
        for phone in (pixel, samsung, frozen):
            adb.connect(phone.address)
        stranger.fault.unauthorized()
        adb.connect(stranger.address, state="unauthorized")
        pixel.fault.battery(level=57)
        frozen.fault.freeze()
        found = _listed(melt, "--timeout", "6")
        left = [_melts_files(phone, adb) for phone in (pixel, samsung)]
    one = found[f"adb:{pixel.address}"]
    assert (one["state"], one["name"], one["profile"]) == ("ready", "Google Pixel 8", "google-pixel-8")
    assert one["battery_ratio"] == 0.57
    assert one["charging"] is True
    assert isinstance(one["temperature_c"], float)
    other = found[f"adb:{samsung.address}"]
    assert (other["state"], other["name"]) == ("ready", "Samsung SM-G991B")
    assert other["profile"] == "samsung-galaxy-s21-exynos"
    assert found[f"adb:{frozen.address}"]["state"] == "silent"
    unknown = found[f"adb:{stranger.address}"]
    assert unknown["state"] == "unauthorized"
    assert "unlock the phone and accept the dialog" in str(unknown["reason"])
    assert found["local"]["usable"]
    assert left == ["", ""], "a device that is only listed gets nothing"


def test_a_phone_of_another_adb_server_is_named_with_it(melt: Melt, adb: AdbServer) -> None:
    with playing("pixel-8") as pixel:
        adb.connect(pixel.address)
        del melt.env["ADB_SERVER_SOCKET"]
        found = _listed(melt, "--adb-server", f"127.0.0.1:{adb.port}")
    assert found[f"adb:{pixel.address}@127.0.0.1:{adb.port}"]["state"] == "ready"


def test_cleaning_takes_back_what_a_run_left(melt: Melt, adb: AdbServer) -> None:
    with playing("pixel-8") as pixel:
        adb.connect(pixel.address)
        blob = "/data/local/tmp/melt/blobs/0123456789abcdef/model.gguf"
        made = adb.run(
            "shell", f"mkdir -p {blob.rpartition('/')[0]} && head -c 3000000 /dev/zero > {blob}", serial=pixel.address
        )
        assert made.returncode == 0, made.stderr
        done = melt("devices", "clean", f"adb:{pixel.address}")
        assert "freed 2.86 MiB in /data/local/tmp/melt on Google Pixel 8" in done.stderr
        assert adb.run("shell", f"ls {blob}", serial=pixel.address).returncode != 0
        assert "freed 0 B" in melt("devices", "clean", pixel.address).stderr


def _melts_files(phone: VirtualPhone, adb: AdbServer) -> str:
    return adb.run("shell", "ls /data/local/tmp", serial=phone.address).stdout.decode().strip()


def test_an_adb_server_is_started_where_none_runs(melt: Melt) -> None:
    programs = adb_programs()
    if not programs:
        pytest.skip("no adb: install Debian's adb or the package adbutils")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    melt.env["ADB_SERVER_SOCKET"] = f"tcp:localhost:{port}"
    try:
        assert melt("devices").stderr == ""
    finally:
        done = subprocess.run(
            [next(iter(programs.values())), "-P", str(port), "kill-server"],
            check=False,
            capture_output=True,
            timeout=30,
        )
    assert done.returncode == 0, "melt started a server there"
