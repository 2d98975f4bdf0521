"""What can go wrong with a phone does go wrong here, on command, and can be put right again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual.phone import ControlError, VirtualPhone
from virtual.phone.clients import AdbServer
from virtual.phone.testing import Adb, adb_server, eventually, playing

pytestmark = pytest.mark.slow

TMP = "/data/local/tmp"
BATTERY = "/sys/class/power_supply/battery"


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with playing("pixel-8", data_mb=32, boot_s=0.2) as started:
        yield started


def test_a_detached_process_survives_a_drop(adb: Adb) -> None:
    adb.shell(
        f"echo 'echo $$ > {TMP}/pid; exec sleep 100' > {TMP}/job; setsid sh {TMP}/job </dev/null >/dev/null 2>&1 &"
    )
    eventually(lambda: adb.run("shell", f"cat {TMP}/pid").stdout.strip())
    adb.phone.fault.drop()
    adb.server.connect(adb.phone.address)
    assert adb.shell(f"cat /proc/$(cat {TMP}/pid)/comm") == "sleep\n"
    assert adb.phone.fault.kill("sleep 100")


def test_a_drop_ends_the_command_of_the_host(adb: Adb) -> None:
    before = len(adb.phone.log())
    command = subprocess.Popen(
        [adb.server.program, "-s", adb.phone.address, "shell", "echo up; sleep 50"],
        env=adb.server.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert command.stdout is not None
    assert command.stdout.readline() == b"up\n"
    adb.phone.fault.drop()
    command.wait(20)  # its exit code is 0 with old clients, as if the command had ended well
    command.stdout.close()
    adb.phone.wait_event("sighup", after=before)
    adb.phone.fault.kill("sleep 50")


def test_a_drop_in_a_transfer_leaves_no_half_file(adb: Adb, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8_000_000))
    before = len(adb.phone.log())
    adb.phone.fault.drop_after(2_000_000)
    assert adb.run("push", str(tmp_path / "file"), f"{TMP}/half").returncode == 1
    adb.phone.wait_event("link_dropped", after=before)
    adb.server.connect(adb.phone.address)
    assert adb.run("shell", f"ls {TMP}/half").returncode == 1


def test_a_frozen_link_says_nothing_until_it_thaws(adb: Adb) -> None:
    adb.phone.fault.freeze()
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            adb.run("shell", "echo late", timeout_s=0.5)
        assert adb.server.state(adb.phone.address) == "device"
    finally:
        adb.phone.fault.thaw()
    assert adb.shell("echo there") == "there\n"


def test_a_slow_link_is_slow(adb: Adb, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(500_000))
    adb.phone.fault.throttle(1_000_000)
    try:
        began_s = time.monotonic()
        assert adb.run("push", str(tmp_path / "file"), f"{TMP}/slow").returncode == 0
        assert 0.4 < time.monotonic() - began_s < 5
    finally:
        adb.phone.fault.throttle(0)


def test_an_unauthorized_phone_waits_for_its_user(adb: Adb) -> None:
    adb.phone.fault.unauthorized()
    try:
        adb.server.run("disconnect", adb.phone.address)
        adb.server.connect(adb.phone.address, state="unauthorized")
        assert adb.run("shell", "true").returncode == 1
    finally:
        adb.phone.fault.authorize()
    adb.server.connect(adb.phone.address)
    assert adb.shell("echo allowed") == "allowed\n"


def test_a_reboot_keeps_files_and_settings_and_nothing_else(adb: Adb) -> None:
    first = adb.shell("cat /proc/sys/kernel/random/boot_id")
    adb.shell(f"echo kept > {TMP}/kept; settings put global kept yes; input keyevent 223")
    before = len(adb.phone.log())
    assert adb.run("reboot").returncode == 0
    adb.phone.wait_event("booted", after=before)
    adb.server.connect(adb.phone.address)
    assert adb.shell("cat /proc/sys/kernel/random/boot_id") != first
    assert float(adb.shell("cat /proc/uptime").split()[0]) < 20
    assert adb.shell(f"cat {TMP}/kept; settings get global kept") == "kept\nyes\n"
    assert adb.phone.state()["screen"] == "on"


def test_a_clock_that_jumped_is_seen(adb: Adb) -> None:
    before = len(adb.phone.log())
    adb.phone.fault.clock_jump(5000, boot_s=0.0)
    adb.phone.wait_event("booted", after=before)
    adb.server.connect(adb.phone.address)
    assert float(adb.shell("cat /proc/uptime").split()[0]) > 5000


def test_a_memory_kill_leaves_its_traces(adb: Adb) -> None:
    adb.shell("setsid sleep 300 </dev/null >/dev/null 2>&1 &")
    count = int(adb.shell("grep oom_kill /proc/vmstat").split()[1])
    killed = adb.phone.fault.memory_kill("sleep 300")
    assert int(adb.shell("grep oom_kill /proc/vmstat").split()[1]) == count + 1
    assert f"lowmemorykiller: Kill 'setsid' ({killed[0]})" in adb.shell("logcat -d -t 5")


def test_heat_rises_and_frequencies_fall(adb: Adb) -> None:
    limit = "cat /sys/devices/system/cpu/cpufreq/policy8/scaling_max_freq"
    assert adb.shell(limit) == "2914000\n"
    adb.phone.fault.ramp(46.0)
    try:
        assert 1_500_000 < int(adb.shell(limit)) < 2_900_000
        assert "Thermal Status: 3\n" in adb.shell("dumpsys thermalservice")
        assert "mValue=46.0, mType=3, mName=VIRTUAL-SKIN, mStatus=3" in adb.shell("dumpsys thermalservice")
    finally:
        adb.phone.fault.ramp(None)
    assert adb.shell(limit) == "2914000\n"


def test_the_battery_says_what_it_is_told(adb: Adb) -> None:
    adb.phone.fault.battery(level=7, temperature_c=44.0)
    try:
        assert "  level: 7\n" in adb.shell("dumpsys battery")
        assert adb.shell(f"cat {BATTERY}/capacity {BATTERY}/temp") == "7\n440\n"
    finally:
        adb.phone.fault.battery(level=None, temperature_c=None)


def test_a_file_that_is_kept_open_sees_it_change(adb: Adb) -> None:
    adb.phone.fault.set_sysfs({"/sys/class/extra/value": "1"})
    until_told = f"echo > {TMP}/ready; while [ -e {TMP}/ready ]; do sleep 0.05; done"
    command = subprocess.Popen(
        [adb.server.program, "-s", adb.phone.address, "shell", f"exec 3</sys/class/extra/value; {until_told}; cat <&3"],
        env=adb.server.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    eventually(lambda: adb.run("shell", f"ls {TMP}/ready").returncode == 0)
    adb.phone.fault.set_sysfs({"/sys/class/extra/value": "22"})
    adb.shell(f"rm {TMP}/ready")
    assert command.communicate(timeout=20)[0] == b"22\n"


def test_an_unknown_fault_is_refused(phone: VirtualPhone) -> None:
    with pytest.raises(ControlError, match="unknown; known: drop, freeze"):
        phone.fault("explode")


def test_a_killed_supervisor_leaves_no_process() -> None:
    with playing("mi-a1", data_mb=8) as phone, adb_server("system") as server:
        Adb(server, phone).shell("setsid sleep 4321 </dev/null >/dev/null 2>&1 &")
        eventually(lambda: _sleepers() == 1)
        os.kill(phone.pid, 9)
        eventually(lambda: _sleepers() == 0)


def _sleepers() -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes().endswith(b"sleep\x004321\x00")
        except OSError:
            continue
    return found


def test_two_phones_do_not_mix(server: AdbServer) -> None:
    with playing("galaxy-s21", data_mb=8) as one, playing("mi-a1", data_mb=8) as other:
        for phone, model in ((one, "SM-G991B"), (other, "Mi A1")):
            adb = Adb(server, phone)
            assert adb.shell("getprop ro.product.model; getprop ro.serialno") == f"{model}\n{phone.serial}\n"
            adb.shell(f"echo {model} > {TMP}/mine")
        assert Adb(server, one).shell(f"cat {TMP}/mine") == "SM-G991B\n"
        other.fault.drop()
        assert Adb(server, one).shell("echo still there") == "still there\n"
