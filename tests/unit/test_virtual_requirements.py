"""Where a phone cannot be played, one sentence says why: it is what skipped tests show."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator

import pytest
from virtual.phone import Unavailable, requirements


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    requirements._lacking.cache_clear()
    yield
    requirements._lacking.cache_clear()


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None if name == requirements.QEMU else f"/usr/bin/{name}")
    with pytest.raises(Unavailable, match="needs qemu-aarch64-static: install qemu-user-static"):
        requirements.require()


def test_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(Unavailable, match="needs Linux on x86_64"):
        requirements.require()


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="needs root"):
        requirements.require()
