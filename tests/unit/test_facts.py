"""Facts of a device, where a file in tests/data/snapshots would say less than a line here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.errors import StoreError
from melt.records import Cpu, DeviceFacts
from melt.targets.cpus import default_threads, parse_cpulist
from melt.targets.linux import FACT_COMMANDS, FACT_GLOBS, parse_facts
from melt.targets.probe import Snapshot, dump_snapshot, int_of, load_snapshot, take_snapshot, text_of
from melt.transports.local import LocalTransport

X86 = {"$ uname -m": b"x86_64\n", "/proc/cpuinfo": b"flags\t\t: fpu sse2\n"}
GUEST = {"$ uname -m": b"x86_64\n", "/proc/cpuinfo": b"flags\t\t: fpu hypervisor\n"}
ARM = {"$ uname -m": b"aarch64\n"}


def facts(snapshot: Snapshot) -> DeviceFacts:
    return parse_facts(snapshot, device_id_hint="local", kind="local")


def dmi(vendor: str, product: str) -> dict[str, bytes]:
    folder = "/sys/class/dmi/id"
    return {f"{folder}/sys_vendor": vendor.encode(), f"{folder}/product_name": product.encode()}


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (X86 | dmi("Dell Inc.", "XPS 13 9310"), None),
        (X86 | dmi("Amazon EC2", "c5.metal"), None),
        (ARM | dmi("Amazon EC2", "c7g.metal"), None),
        (ARM | dmi("Amazon EC2", "c7g.large"), "amazon"),
        (ARM | dmi("QEMU", "KVM Virtual Machine"), "kvm"),
        (ARM | {"/proc/device-tree/hypervisor/compatible": b"linux,kvm\0"}, "kvm"),
        (ARM | {"/proc/device-tree/model": b"Raspberry Pi 5\0"}, None),
        (GUEST | dmi("QEMU", "Standard PC (Q35 + ICH9, 2009)"), "kvm"),
        (GUEST | dmi("VMware, Inc.", "VMware7,1"), "vmware"),
        (GUEST | dmi("Microsoft Corporation", "Virtual Machine"), "hyperv"),
        (GUEST, "virtual machine"),
        (X86 | {"/.dockerenv": b""}, "docker"),
        (GUEST | {"/run/systemd/container": b"lxc\n"}, "virtual machine + lxc"),
    ],
)
def test_virtualization(snapshot: Snapshot, expected: str | None) -> None:
    assert facts(snapshot).virtualization == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-3,6", (0, 1, 2, 3, 6)),
        ("0", (0,)),
        ("", ()),
        ("3-1", ()),
        (" 2 , 1\n", (1, 2)),
        ("0,x,4-", (0,)),
        ("99999999", ()),
    ],
)
def test_a_list_of_cpus(text: str, expected: tuple[int, ...]) -> None:
    assert parse_cpulist(text) == expected


@given(st.text(max_size=30))
def test_a_list_of_cpus_is_never_too_long(text: str) -> None:
    assert len(parse_cpulist(text)) <= 10_000


def test_the_raw_machine_id_does_not_leave_the_device() -> None:
    machine_id = "0123456789abcdef0123456789abcdef"
    found = facts({"/etc/machine-id": f"{machine_id}\n".encode()})
    assert machine_id not in repr(found)
    assert found.device_id == facts({"/etc/machine-id": machine_id.encode(), **GUEST}).device_id
    assert found.device_id != facts({"/etc/machine-id": b"another"}).device_id


def test_boards_flashed_with_one_image_are_told_apart_by_their_serial_numbers() -> None:
    image = {"/etc/machine-id": b"same\n"}
    one, two = ({**image, "/proc/device-tree/serial-number": serial} for serial in (b"10000000a\0", b"10000000b\0"))
    assert facts(one).device_id != facts(two).device_id


def test_cpus_that_this_process_may_not_use_are_left_out() -> None:
    found = facts(
        {"/sys/devices/system/cpu/online": b"0-63\n", "/proc/self/status": b"Cpus_allowed_list:\t2-3\nThreads:\t1\n"}
    )
    assert [cpu.index for cpu in found.cpus] == [2, 3]


def test_threads_are_physical_cores_of_all_packages() -> None:
    cpus = tuple(Cpu(index=i, core=i % 2, package=i // 4) for i in range(8))
    base = facts({})
    assert default_threads(base) == 1
    assert (
        default_threads(
            DeviceFacts(device_id="", kind="", name="", os="", os_build=None, kernel=None, arch="", cpus=cpus)
        )
        == 4
    )


def test_a_snapshot_survives_its_document() -> None:
    snapshot = {
        "/te\udcffxt": "Grüße\n".encode(),
        "/binary": bytes(range(256)),
        "/empty": b"",
        "$ command": b'{"base64": 1}',
    }
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot


@given(st.dictionaries(st.text(max_size=10), st.binary(max_size=40), max_size=5))
def test_any_snapshot_survives_its_document(snapshot: dict[str, bytes]) -> None:
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format":"melt-snapshot","version":9,"files":{}}', b"\xff"])
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(StoreError, match="not a snapshot"):
        load_snapshot(data)


def test_texts_and_numbers_of_files() -> None:
    snapshot = {"/a": b" 12\n\0", "/b": b"\n", "/c": b"x"}
    assert [text_of(snapshot, path) for path in ("/a", "/b", "/c", "/d")] == ["12", None, "x", None]
    assert [int_of(snapshot, path) for path in ("/a", "/b", "/c", "/d")] == [12, None, None, None]


def test_a_name_of_firmware_steers_no_terminal() -> None:
    said = {"/type": b"cpu\x1b[2J\xc2\x9b1A\n", "/lines": b"a\tb\r\nc\0d\n"}
    assert text_of(said, "/type") == "cpu\ufffd[2J\ufffd1A"
    assert text_of(said, "/lines") == "a\tb\r\nc\0d"


class FilesHere:
    def read(self, globs: object) -> dict[str, bytes]:
        return {"/etc/hostname": b"here\n"}


def test_a_command_that_fails_or_is_not_there_leaves_nothing() -> None:
    commands = {"good": ("echo", "hi"), "bad": ("false",), "absent": ("/nowhere/tool",)}
    assert take_snapshot(LocalTransport(), FilesHere(), ["/etc/hostname"], commands) == {
        "/etc/hostname": b"here\n",
        "$ good": b"hi\n",
    }


def test_globs_and_commands_are_words_not_shell() -> None:
    assert len(set(FACT_GLOBS)) == len(FACT_GLOBS)
    assert all(glob.startswith("/") and not set(glob) & set("{}$`;") for glob in FACT_GLOBS)
    assert all(isinstance(argv, tuple) for argv in FACT_COMMANDS.values())
