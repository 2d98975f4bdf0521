"""melt's own transports, held against what melt.testing asks of every one. A new one joins by a line in `OPENERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from virtual.adbd.build import build as build_adbd
from virtual.adbd.failure import Unavailable
from virtual.phone import VirtualPhone
from virtual.phone.testing import adb_server, playing
from virtual.ssh_testing import serving, somebody

from melt.testing.test_transports import TestChannel, TestFeed, TestFiles, TestRun
from melt.transports.base import Transport
from melt.transports.local import LocalTransport
from melt.transports.registry import open_transport

__all__ = ["TestChannel", "TestFeed", "TestFiles", "TestRun"]


@contextmanager
def local(request: pytest.FixtureRequest) -> Iterator[Transport]:
    yield LocalTransport()


def phone_by(client: str) -> Callable[[pytest.FixtureRequest], AbstractContextManager[Transport]]:
    @contextmanager
    def opened(request: pytest.FixtureRequest) -> Iterator[Transport]:
        phone: VirtualPhone = request.getfixturevalue("phone")
        with adb_server(client) as server:
            yield open_transport(f"adb:{phone.address}@127.0.0.1:{server.port}")

    return opened


@contextmanager
def phone_of_aosp(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Reach a phone whose adb daemon is Android's own."""
    try:
        daemon = build_adbd()
    except Unavailable as reason:
        pytest.skip(str(reason))
    with playing("pixel-8", data_mb=64, adbd=daemon) as phone, adb_server("wheel") as server:
        yield open_transport(f"adb:{phone.address}@127.0.0.1:{server.port}")


@contextmanager
def ssh(request: pytest.FixtureRequest) -> Iterator[Transport]:
    with serving() as server:
        yield open_transport(server.alias)


def ssh_as_user_of(shell: str) -> Callable[[pytest.FixtureRequest], AbstractContextManager[Transport]]:
    """Reach a host as somebody whose login shell prints noise when it starts, in a locale that does not exist."""

    @contextmanager
    def opened(request: pytest.FixtureRequest) -> Iterator[Transport]:
        with somebody(shell) as (user, _), serving(user=user) as server:
            yield open_transport(f"ssh:{server.alias}")

    return opened


OPENERS: dict[str, Callable[[pytest.FixtureRequest], AbstractContextManager[Transport]]] = {
    "local": local,
    "adb-system": phone_by("system"),
    "adb-wheel": phone_by("wheel"),
    "adb-aosp": phone_of_aosp,
    "ssh": ssh,
    **{f"ssh-noisy-{shell}": ssh_as_user_of(shell) for shell in ("bash", "dash", "zsh", "fish", "tcsh")},
}
PARAMS = [pytest.param(name, marks=() if name == "local" else pytest.mark.slow) for name in OPENERS]


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with playing("pixel-8", data_mb=64) as started:
        yield started


@pytest.fixture(scope="module", params=PARAMS)
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    with OPENERS[request.param](request) as opened:
        yield opened
        opened.close()
