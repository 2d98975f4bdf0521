"""What a Jetson says of itself, from outputs that boards have printed."""

from __future__ import annotations

import pytest

from melt.records import DeviceFacts
from melt.targets import jetson
from melt.targets.linux import parse_facts
from melt.targets.probe import Snapshot

TREE = "/proc/device-tree"
ORIN_NANO = {
    f"{TREE}/compatible": b"nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    f"{TREE}/model": b"NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    f"{TREE}/serial-number": b"1420000000000\0",
    "/etc/nv_tegra_release": b"# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    b"DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n",
    "/etc/os-release": b'PRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "$ uname -m": b"aarch64\n",
    "$ nvidia-gpus": b"Orin (nvgpu), 540.4.0, [N/A]\n",
    "$ nvpmodel": b"NV Power Mode: MAXN_SUPER\n2\n",
}
CPU, GPU = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_{}_freq", "/sys/class/devfreq/17000000.gpu/{}_freq"


def facts(snapshot: Snapshot) -> DeviceFacts:
    return parse_facts(snapshot, device_id_hint="ssh:board", kind="ssh")


def clocks(*cpus: tuple[int, int], gpu: tuple[int, int] | None = None) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for index, limits in enumerate(cpus):
        found |= {CPU.format(index, kind): f"{hz}\n".encode() for kind, hz in zip(("min", "max"), limits, strict=True)}
    if gpu is not None:
        found |= {GPU.format(kind): f"{hz}\n".encode() for kind, hz in zip(("min", "max"), gpu, strict=True)}
    return found


def test_an_orin_nano_names_its_jetpack_its_mode_and_its_gpu() -> None:
    found = facts(ORIN_NANO | clocks((115200, 1510400)))
    assert found.name == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert found.os_build == "JetPack 6.2 (L4T 36.4.3)"
    assert found.soc == "tegra234"
    assert found.accelerators == ("integrated Ampere GPU, driver 540.4.0",)
    assert found.power_mode == "MAXN_SUPER"
    assert found.clocks_locked is False


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref", "JetPack 4.6.1 (L4T 32.7.1)"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", "JetPack 5.1.2 (L4T 35.4.1)"),
        ("# R35 (release), REVISION: 6.4, GCID: 42525158, BOARD: generic", "JetPack 5.1.6 (L4T 35.6.4)"),
        ("# R36 (release), REVISION: 3.0, GCID: 36191598, BOARD: generic", "JetPack 6.0 (L4T 36.3.0)"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic", "JetPack 7.0 (L4T 38.2.0)"),
        ("# R99 (release), REVISION: 1.0, GCID: 1, BOARD: generic", "L4T 99.1.0"),
        ("something else", "Ubuntu 22.04.5 LTS"),
    ],
)
def test_the_release_becomes_a_jetpack_where_it_is_known(release: str, expected: str) -> None:
    assert facts({**ORIN_NANO, "/etc/nv_tegra_release": release.encode()}).os_build == expected


@pytest.mark.parametrize(
    ("compatible", "gpus", "expected"),
    [
        (b"nvidia,jetson-nano\0nvidia,tegra210\0", b"", ("integrated Maxwell GPU",)),
        (b"nvidia,p3701-0005\0nvidia,tegra234\0nvidia,tegra23x\0", b"", ("integrated Ampere GPU",)),
        (b"nvidia,galen\0nvidia,jetson-xavier\0nvidia,tegra194\0", b"", ("integrated Volta GPU",)),
        (b"nvidia,tegra264\0", b"NVIDIA Thor, 580.00, [N/A]\n", ("integrated Blackwell GPU, driver 580.00",)),
        (b"nvidia,tegra234\0", b"Orin (nvgpu), [N/A], [N/A]\n", ("integrated Ampere GPU",)),
        (
            b"nvidia,tegra234\0",
            b"NVIDIA RTX A6000, 540.4.0, 49140 MiB\n",
            ("integrated Ampere GPU", "NVIDIA RTX A6000, 49140 MiB, driver 540.4.0"),
        ),
    ],
)
def test_the_gpu_in_the_chip_is_named_by_the_chip(compatible: bytes, gpus: bytes, expected: tuple[str, ...]) -> None:
    assert facts({f"{TREE}/compatible": compatible, "$ nvidia-gpus": gpus}).accelerators == expected


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("NV Power Mode: 15W\n0\n", ("15W", 0)),
        ("NV Power Mode: MODE_15W_6CORE\n2\n", ("MODE_15W_6CORE", 2)),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_20W_6CORE\n8\n", ("MODE_20W_6CORE", 8)),
        ("NV Power Mode: 5W\n1\nNVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13\n", ("5W", 1)),
        ("NVPM WARN: power mode is not set!\n", None),
        ("NV Power Mode: 15W\n", None),
        ("", None),
    ],
)
def test_the_power_mode_is_read_among_complaints(printed: str, expected: tuple[str, int] | None) -> None:
    assert jetson.parse_mode(printed) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (clocks((1510400, 1510400), (1510400, 1510400), gpu=(624750000, 624750000)), True),
        (clocks((1510400, 1510400), (115200, 1510400), gpu=(624750000, 624750000)), False),
        (clocks((1510400, 1510400), gpu=(306000000, 624750000)), False),
        (clocks((1510400, 1510400)), True),
        (clocks(gpu=(624750000, 624750000)), None),
        ({}, None),
    ],
)
def test_clocks_are_locked_where_the_lowest_is_the_highest(limits: Snapshot, expected: bool | None) -> None:
    assert facts({**ORIN_NANO, **limits}).clocks_locked is expected


def test_other_machines_have_no_power_mode() -> None:
    found = facts({"$ uname -m": b"x86_64\n", "$ nvpmodel": b"NV Power Mode: 15W\n0\n", **clocks((1, 1))})
    assert (found.power_mode, found.clocks_locked) == (None, None)
    assert not jetson.is_jetson({f"{TREE}/compatible": b"raspberrypi,5-model-b\0brcm,bcm2712\0"})
