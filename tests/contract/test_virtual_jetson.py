"""The virtual Jetson through OpenSSH's own client: what a board shows and does, it shows and does."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual.jetson import VirtualJetson
from virtual.jetson.testing import playing, said, ssh, ssh_argv
from virtual.phone.testing import eventually

CPU = "/sys/devices/system/cpu"
BURN = "for i in 1 2; do timeout 60 sh -c 'while :; do :; done' & done; wait"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def orin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualJetson]:
    with playing("orin-nano-jp6", tmp_path_factory.mktemp("orin"), jtop=None, home_mb=32) as board:
        yield board


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualJetson]:
    with playing("nano-jp4", tmp_path_factory.mktemp("nano"), jtop=None, home_mb=32, sudo=None) as board:
        yield board


def test_a_board_is_a_board_and_its_user_is_nobody_special(orin: VirtualJetson) -> None:
    assert said(orin, "id -un; id -Gn; hostname; pwd") == "jetson\njetson jtop\njetson\n/home/jetson\n"
    assert said(orin, "cat /etc/nv_tegra_release").startswith("# R36 (release), REVISION: 4.3")
    assert said(orin, "cat /proc/sys/kernel/osrelease") == "5.15.148-tegra\n"
    assert "0xd42" in said(orin, "grep -m1 part /proc/cpuinfo")
    assert "NvMapMemUsed" in said(orin, "cat /proc/meminfo")
    assert ssh(orin, "cat /sys/kernel/debug/bpmp/debug/clk/emc/rate").returncode == 1, "debugfs is root's"
    assert ssh(orin, "touch /usr/bin/x").returncode == 1


def test_programs_are_those_of_this_machine(orin: VirtualJetson) -> None:
    assert said(orin, "uname -m") == "x86_64\n"
    engines = said(orin, '.melt/venv/bin/python -c "import llama_cpp, sys; print(sys.prefix)"')
    assert engines == "/home/jetson/.melt/venv\n"


def test_files_lie_where_jetpack_6_has_them(orin: VirtualJetson) -> None:
    labels = said(orin, "cd /sys/bus/i2c/devices/1-0040/hwmon/hwmon*; cat in1_label in2_label in3_label in7_label")
    assert labels.split("\n")[:3] == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]
    assert said(orin, "cat /sys/class/hwmon/hwmon*/name").split() == ["pwmfan", "ina3221", "pwm_tach"]
    assert said(orin, "cat /sys/class/thermal/thermal_zone8/type") == "tj-thermal\n"
    assert said(orin, "cat /sys/class/devfreq/17000000.gpu/device/load").strip().isdecimal()


def test_files_lie_where_jetpack_4_has_them(nano: VirtualJetson) -> None:
    names = said(nano, "cat /sys/bus/i2c/devices/6-0040/iio:device0/rail_name_*").split()
    assert names == ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"]
    assert "PMIC-Die" in said(nano, "cat /sys/class/thermal/thermal_zone*/type")
    assert said(nano, "cat /sys/class/thermal/thermal_zone4/temp") == "100000\n"
    assert ssh(nano, "sudo -n true").returncode == 127


def test_rails_add_up_to_what_goes_in(orin: VirtualJetson, nano: VirtualJetson) -> None:
    for board, files in ((orin, "hwmon/hwmon1/curr[1-3]_input"), (nano, "iio:device0/in_current[0-2]_input")):
        board.set(hold=True)
        total, *parts = map(int, said(board, f"cat /sys/bus/i2c/devices/*-0040/{files}").split())
        board.set(hold=None)
        assert sum(parts) < total < sum(parts) + 700


def test_values_follow_the_load(orin: VirtualJetson) -> None:
    idle = orin.state()
    burning = subprocess.Popen(ssh_argv(orin, BURN))
    try:
        eventually(lambda: orin.state()["load_cpus"] > idle["load_cpus"] + 0.05, timeout_s=40)
        eventually(lambda: orin.state()["power_w"] > idle["power_w"] + 0.04, timeout_s=40)
        eventually(lambda: int(orin.read(f"{CPU}/cpufreq/policy0/scaling_cur_freq")) > 729_600, timeout_s=40)
        eventually(lambda: orin.state()["temperature_c"] > idle["temperature_c"], timeout_s=40)
    finally:
        burning.kill()
        burning.wait()
        ssh(orin, "pkill timeout")


def test_a_power_mode_is_set_by_who_may_and_holds(orin: VirtualJetson) -> None:
    assert said(orin, "nvpmodel -q") == "NV Power Mode: 25W\n1\n"
    refused = ssh(orin, "nvpmodel -m 0")
    assert (refused.returncode, refused.stdout[:10]) == (255, "NVPM ERROR")
    assert said(orin, "sudo -n nvpmodel -m 0 && nvpmodel -q") == "NV Power Mode: 15W\n0\n"
    assert orin.read(f"{CPU}/cpufreq/policy4/scaling_max_freq") == "1497600"
    assert ssh(orin, "sudo -n nvpmodel -m 9").returncode == 255
    said(orin, "sudo -n nvpmodel -m 1")
    assert orin.state()["mode"] == "25W"


def test_fixed_clocks_are_fixed_and_given_back(orin: VirtualJetson) -> None:
    said(orin, "sudo -n jetson_clocks --store clocks && sudo -n jetson_clocks")
    assert orin.state()["jetson_clocks"]
    eventually(lambda: orin.read(f"{CPU}/cpufreq/policy0/scaling_cur_freq") == "1344000")
    assert "FreqOverride=1" in said(orin, "sudo -n jetson_clocks --show")
    said(orin, "sudo -n jetson_clocks --restore clocks")
    assert not orin.state()["jetson_clocks"]
    assert ssh(orin, "sudo -n jetson_clocks --restore nowhere").stderr == "Can't access nowhere!\n"


def test_sudo_keeps_its_policy(orin: VirtualJetson) -> None:
    refused = ssh(orin, "sudo -n id")
    assert (refused.returncode, refused.stderr) == (1, "sudo: a password is required\n")
    assert "a terminal is required" in ssh(orin, "sudo id").stderr
    assert said(orin, "sudo -n -l nvpmodel") == "/usr/sbin/nvpmodel\n"
    assert ssh(orin, "reboot").returncode == 1
    assert "id" in orin.state()["sudo"]


def test_a_mode_that_wants_a_restart_gets_it_only_after_a_yes(orin: VirtualJetson) -> None:
    boot = orin.read("/proc/sys/kernel/random/boot_id")
    refused = ssh(orin, "sudo -n nvpmodel -m 3", stdin="no\n")
    assert refused.returncode == 255
    assert "Reboot required" in refused.stdout
    assert orin.state()["mode"] == "25W"
    begun = len(orin.log())
    ssh(orin, "sudo -n nvpmodel -m 3", stdin="YES\n")
    orin.wait_event("reachable", after=begun)
    assert orin.state()["mode"] == "7W"
    assert orin.read("/proc/sys/kernel/random/boot_id") != boot
    eventually(lambda: orin.read(f"{CPU}/online") == "0-3")
    assert "cpu5" not in said(orin, "cat /proc/stat")
    begun = len(orin.log())
    ssh(orin, "sudo -n nvpmodel -m 1 -f")
    orin.wait_event("reachable", after=begun)


def test_files_outlive_a_reboot_and_processes_do_not(orin: VirtualJetson) -> None:
    said(orin, "echo kept > file; setsid sleep 300 </dev/null >/dev/null 2>&1 &")
    boot = orin.read("/proc/sys/kernel/random/boot_id")
    orin.reboot()
    assert said(orin, "cat file; pgrep sleep || echo nothing") == "kept\nnothing\n"
    assert float(said(orin, "cat /proc/uptime").split()[0]) < 30, "the clocks begin anew"
    assert orin.read("/proc/sys/kernel/random/boot_id") != boot


def test_a_home_fills_up_alone(orin: VirtualJetson) -> None:
    orin.fill_disk(leave_kb=64)
    assert "No space left on device" in ssh(orin, "head -c 1000000 /dev/zero > file").stderr
    said(orin, "echo fits > /tmp/file")
    orin.free_disk()
    said(orin, "head -c 1000000 /dev/zero > file; rm file")


def test_heat_lowers_the_clocks(orin: VirtualJetson) -> None:
    said(orin, "sudo -n jetson_clocks --store clocks && sudo -n jetson_clocks")
    orin.heat(103.0)
    eventually(lambda: int(orin.read(f"{CPU}/cpufreq/policy0/scaling_cur_freq")) < 1_000_000)
    assert int(orin.read("/sys/devices/virtual/thermal/cooling_device0/cur_state")) > 0
    assert said(orin, "cat /sys/class/thermal/thermal_zone0/temp").strip() == "103000"
    orin.heat(None)
    said(orin, "sudo -n jetson_clocks --restore clocks")


@pytest.mark.parametrize("profile", ["orin-nano-jp6", "nano-jp4"])
def test_tegrastats_prints_what_the_files_say(profile: str, orin: VirtualJetson, nano: VirtualJetson) -> None:
    board = orin if profile == "orin-nano-jp6" else nano
    board.set(hold=True)
    line = ssh(board, "timeout 1 tegrastats --interval 200").stdout.splitlines()[-1]
    watts = re.search(r"(?:VDD_IN|POM_5V_IN) (\d+)", line)
    assert watts
    assert int(watts[1]) == pytest.approx(board.state()["power_w"] * 1000, abs=2)
    board.set(hold=None)


def test_a_start_up_file_prints_and_a_locale_is_odd(tmp_path: Path) -> None:
    with playing("nano-jp4", tmp_path, jtop=None, home_mb=8, noise=True, locale="tr_TR.UTF-8") as board:
        done = ssh(board, "echo $LC_ALL")
    assert done.stdout.startswith("Welcome to this board.")
    assert done.stdout.endswith("tr_TR.UTF-8\n")
    assert "tput" in done.stderr


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with playing("nano-jp4", tmp_path, jtop=None, home_mb=8) as board:
        first = board.pid
    assert not Path(f"/proc/{first}").exists()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert not (tmp_path / "storage").exists()
