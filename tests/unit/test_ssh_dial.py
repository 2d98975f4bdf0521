"""Whom melt calls when it is told a name, and how long it tries."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from melt.errors import Gone
from melt.transports._ssh_dial import dial


@pytest.mark.parametrize("host", ["orin..local", "x" * 64, ".orin"])
def test_what_is_no_name_is_said(host: str) -> None:
    with pytest.raises(Gone, match=r"ssh:orin: no host is called .* here"):
        dial(host, 22, 5.0, "ssh:orin")


def test_a_resolver_that_does_not_answer_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers.wait(30.0))
    began = time.monotonic()
    with pytest.raises(Gone, match=r"who is called orin was not told within 0\.2 s: does DNS work here"):
        dial("orin", 22, 0.2, "ssh:orin")
    assert time.monotonic() - began < 5.0
    answers.set()


def test_an_address_that_swallows_packets_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(full.getsockname()),
    ):
        places = (full.getsockname(), listener.getsockname())
        listed: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: listed)
        began = time.monotonic()
        with dial("orin", 22, 2.0, "ssh:orin") as link:
            assert link.getpeername() == listener.getsockname()
            assert 0.5 < time.monotonic() - began < 1.9
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Gone, match=rf"ssh:orin: 127\.0\.0\.1 port {port} refuses a connection"):
        dial("127.0.0.1", port, 5.0, "ssh:orin")
