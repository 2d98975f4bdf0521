"""The emulated adb daemon against the real one of AOSP: what one answers, the other must answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual.adbd.apt import source_entries
from virtual.adbd.catalog import JUSTIFIED, PROBES
from virtual.adbd.failure import BuildError, Unavailable, logged
from virtual.adbd.probes import Probe, Target, observe
from virtual.adbd.testing import BUILD_TIMEOUT_S, real_adbd
from virtual.phone import VirtualPhone
from virtual.phone.clients import AdbServer
from virtual.phone.testing import CLIENTS, adb_server, playing

SERIAL = "ONEANDTHESAME"


@pytest.fixture(scope="module")
def real_phone() -> Iterator[VirtualPhone]:
    with playing("pixel-8", serial=SERIAL, adbd=real_adbd()) as phone:
        yield phone


@pytest.fixture(scope="module")
def emulated_phone() -> Iterator[VirtualPhone]:
    with playing("pixel-8", serial=SERIAL) as phone:
        yield phone


@pytest.fixture(scope="module", params=CLIENTS)
def server(request: pytest.FixtureRequest) -> Iterator[AdbServer]:
    with adb_server(request.param) as started:
        yield started


def answers(server: AdbServer, phone: VirtualPhone, probe: Probe, folder: Path) -> list[object]:
    server.connect(phone.address)
    folder.mkdir()
    return observe(Target(server.program, server.environment, phone.address, server.port), probe, folder)


def named(probe: Probe) -> object:
    reason = JUSTIFIED.get(probe.name)
    # Strict: a difference that is gone must leave the list.
    marks = [pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)] if reason else []
    return pytest.param(probe, id=probe.name, marks=marks)


@pytest.mark.slow
@pytest.mark.timeout(BUILD_TIMEOUT_S)
@pytest.mark.parametrize("probe", [named(probe) for probe in PROBES])
def test_both_answer_alike(
    server: AdbServer, real_phone: VirtualPhone, emulated_phone: VirtualPhone, probe: Probe, tmp_path: Path
) -> None:
    real = answers(server, real_phone, probe, tmp_path / "real")
    emulated = answers(server, emulated_phone, probe, tmp_path / "emulated")
    assert emulated == real


def test_names_of_probes_are_unique_and_justified_ones_exist() -> None:
    names = [probe.name for probe in PROBES]
    assert len(names) == len(set(names))
    assert JUSTIFIED.keys() <= set(names)


ONE_LINE = """\
# deb http://archive.invalid/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://archive.invalid/debian bookworm main contrib # ours
deb-src http://archive.invalid/debian bookworm main
deb http://vendor.invalid/apt tool-bookworm main
deb http://flat.invalid/ ./
"""
DEB822 = """\
# Two stanzas.
Types: deb
URIs: http://archive.invalid/security
Suites: bookworm-security
# A comment within one.
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQ

Types: deb
URIs: http://off.invalid/debian
Suites: bookworm
Components: main
Enabled: no
"""


def test_sources_are_asked_of_the_archives_that_the_machine_uses(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d/more.sources").write_text(DEB822)
    security, main = source_entries(tmp_path, "bookworm").split("\n\n")
    assert "Types: deb-src\n" in security
    assert "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ" in security
    assert dict(line.split(": ") for line in main.strip().splitlines()) == {
        "Types": "deb-src",
        "URIs": "http://archive.invalid/debian",
        "Suites": "bookworm",
        "Components": "main contrib",
        "Signed-By": "/usr/share/keyrings/a.gpg",
    }


def test_a_machine_of_another_release_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    with pytest.raises(Unavailable, match="names no archive for the release 'noble'"):
        source_entries(tmp_path, "noble")


def test_a_step_that_fails_names_itself_its_reason_and_its_log(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    with pytest.raises(BuildError, match=r"^compiling x\.c failed: .*x\.c.*; the whole log is .*build\.log$"):
        logged("compiling x.c", ["gcc", "-c", "x.c"], log, tmp_path)
