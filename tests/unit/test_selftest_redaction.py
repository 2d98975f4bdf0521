"""A report may be published: nothing in it names a person, a host or one very device; what says how it fared stays."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.analysis.redact import Redactor
from melt.analysis.selftest import Selftest, Step, verdict
from melt.fleet.selftest.private import secrets_here, without_secrets
from melt.targets.probe import load_snapshot

SNAPSHOTS = Path(__file__).resolve().parents[1] / "data" / "snapshots"

SECRETS = {
    "[ro.serialno]: [R5CT30ABCDE]": "R5CT30ABCDE",
    "[ro.boot.serialno]: [R5CT30ABCDE]": "R5CT30ABCDE",
    '      "IOPlatformSerialNumber" = "C02XLAB0Q6NV"': "C02XLAB0Q6NV",
    '      "IOPlatformUUID" = "5D0B2F4E-8A61-5C3D-9E7F-0A1B2C3D4E5F"': "5D0B2F4E-8A61-5C3D-9E7F-0A1B2C3D4E5F",
    "Serial Number (system): C02XLAB0Q6NV": "C02XLAB0Q6NV",
    "Provisioning UDID: 00008103-000A1B2C3D4E5F6A": "00008103-000A1B2C3D4E5F6A",
    "Serial\t\t: 1421921012345": "1421921012345",
    '"BatterySerialNumber" = "F5D0123ABCDEFGH1"': "F5D0123ABCDEFGH1",
    "GPU-5d0b2f4e-8a61-5c3d-9e7f-0a1b2c3d4e5f, 00000000:01:00.0": "5d0b2f4e-8a61-5c3d-9e7f-0a1b2c3d4e5f",
    "wlan0 HWaddr 3c:22:fb:01:02:03": "3c:22:fb:01:02:03",
    "inet 192.168.178.23 netmask": "192.168.178.23",
    "9f86d081884c7d659a2feaa0c55ad015": "9f86d081884c7d659a2feaa0c55ad015",
    "mail to jane.doe@example.com now": "jane.doe@example.com",
    "/Users/janedoe/.melt/venv/bin/python": "janedoe",
    "python: /home/jane-doe/.melt: no such file": "jane-doe",
}

KEPT = [
    "Android 14 UQ1A.240105.004",
    "macOS 15.1 (24B83)",
    "Darwin Kernel Version 24.1.0: Thu Oct 10 21:03:15 PDT 2024; root:xnu-11215.41.3~2/RELEASE_ARM64_T8103",
    "cpu_power 0.20486385, temp 43.73614",
    "127.0.0.1:45123 answered in 3.5 ms",
    "VDD_IN 4541mW/4541mW VDD_SOC 1446mW/1473mW",
    "/sys/devices/platform/serial8250/tty/ttyS0",
    "sha256 89af3122fe0f9f206e46520585757b7c72e3d38e4ad817c3a6a0692a665681b2",
    "L4T 36.4.3, driver 535.104.05, version 174dcb6ab27c37ff",
]


@pytest.mark.parametrize(("text", "secret"), SECRETS.items())
def test_secrets_go(text: str, secret: str) -> None:
    redact = Redactor({})
    redact.learn([text])
    assert secret not in redact(text)
    assert re.search(r"<[a-z-]+(-\d+)?>", redact(text))


@pytest.mark.parametrize("text", KEPT)
def test_figures_versions_and_models_stay(text: str) -> None:
    redact = Redactor({"jane": "user", "/home/jane": "home"})
    redact.learn([text])
    assert redact(text) == text


def test_what_is_known_goes_wherever_it_stands() -> None:
    redact = Redactor({"jane": "user", "/home/jane": "home", "lab-mac.local": "host", "lab-mac": "host"})
    text = "jane@lab-mac:/home/jane/x, janet, ssh:lab-mac, lab-mac.local, mejane"
    assert redact(text) == "<user>@<host-2>:<home>/x, janet, ssh:<host-2>, <host>, mejane"


def test_a_serial_number_that_was_seen_once_is_known_everywhere() -> None:
    redact = Redactor({})
    redact.learn(["[ro.serialno]: [R5CT30ABCDE]"])
    redact.learn_file("/sys/class/dmi/id/product_serial", "PF3ABCD1\n")
    assert redact("adb:R5CT30ABCDE and PF3ABCD1") == "adb:<serial> and <serial-2>"


def test_users_whose_names_are_words_are_left() -> None:
    redact = Redactor({"root": "user", "local": "address", "pi": "user", "": "user", "shell": "user"})
    assert redact("root ran sh -c 'shell local pi'") == "root ran sh -c 'shell local pi'"


@given(st.text())
def test_any_text_can_be_redacted_and_stays_so(text: str) -> None:
    redact = Redactor({"jane": "user"})
    redact.learn([text])
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("file", sorted(SNAPSHOTS.rglob("*.json")), ids=lambda path: path.stem)
def test_snapshots_lose_what_names_a_device(file: Path) -> None:
    snapshot = {path: raw.decode(errors="backslashreplace") for path, raw in load_snapshot(file.read_bytes()).items()}
    step = Step(room="r", name="n", finding=verdict(True, "fine", raw="\n".join(snapshot.values())), duration_s=0.0)
    found = Selftest(
        selector="ssh:jane@bench-7:2222",
        melt_version="1",
        agent_version="2",
        host="Linux",
        started_utc_ns=0,
        device=None,
        steps=(step,),
        snapshot=snapshot,
    )
    public = without_secrets(found, secrets_here(found.selector))
    text, told = json.dumps(public.snapshot), json.dumps(public.steps[0].finding.raw)
    assert "jane" not in public.selector
    assert "bench-7" not in public.selector
    for path, raw in snapshot.items():
        private = path.endswith(("serial-number", "product_serial", "machine-id", "boot_id"))
        if private and re.search(r"\d", raw):
            assert raw.strip("\0\n") not in text
            assert raw.strip("\0\n") not in told
    for serial in re.findall(r"serialno\]: \[([^\]]+)\]", snapshot.get("$ getprop", "")):
        assert serial not in told


def test_the_address_of_a_device_is_private() -> None:
    assert {"jane", "bench-7", "bench-7:2222"} <= secrets_here("ssh:jane@bench-7:2222").keys()
    assert "R5CT30ABCDE" in secrets_here("adb:R5CT30ABCDE")
    assert "192.0.2.7" in secrets_here("adb:192.0.2.7:5555")


def test_what_stands_behind_an_alias_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host mini\n    HostName mini.lab.example\n    User jane\n    ProxyJump joe@[2001:db8::7]:22,gate\n"
        "Host gate\n    HostName 2001:db8::8\n"
    )
    monkeypatch.setenv("MELT_SSH_CONFIG", str(config))
    redact = Redactor(secrets_here("ssh:mini"))
    said = redact("ssh:mini: mini.lab.example port 22 gives no answer; ssh:joe@2001:db8::7 jane gate 2001:db8::8 joe")
    for secret in ("mini", "2001", "gate", "jane", "joe"):
        assert secret not in said


def test_a_user_that_an_image_comes_with_is_nobody() -> None:
    assert Redactor({"nvidia": "user"})("compatible nvidia,tegra234") == "compatible nvidia,tegra234"
