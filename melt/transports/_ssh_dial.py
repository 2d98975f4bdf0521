"""A TCP connection to a name, all within one deadline: to look the name up, and to try each of its addresses."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from melt.errors import Gone

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
_LEAST_S = 0.1


def dial(host: str, port: int, within_s: float, name: str) -> socket.socket:
    """Return a connection to the first address that answers. `name` is what errors call the device. Raises Gone."""
    deadline = time.monotonic() + within_s
    where = f"{host} port {port}"
    try:
        link = _first_that_answers(_addresses(host, port, within_s), deadline)
    except queue.Empty:
        raise Gone(f"{name}: who is called {host} was not told within {within_s:g} s: does DNS work here?") from None
    except TimeoutError:
        raise Gone(f"{name}: {where} gives no answer: is it on, and in this network?") from None
    except socket.gaierror as error:
        raise Gone(f"{name}: no host is called {host} here: {error.strerror}") from error
    except UnicodeError as error:
        # Python asks nobody for what is no name: a part that is empty, or has more than 63 letters.
        raise Gone(f"{name}: no host is called {host} here: that is no name of the network") from error
    except ConnectionRefusedError:
        raise Gone(f"{name}: {where} refuses a connection: is its SSH server running?") from None
    except OSError as error:
        raise Gone(f"{name}: {where} cannot be reached: {error.strerror or error}") from error
    # paramiko leaves it off, and then each command waits 40 ms for an acknowledgement.
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return link


def _addresses(host: str, port: int, within_s: float) -> Sequence[_Address]:
    """Look a name up in a thread: the system's resolver knows no deadline. Raises OSError, UnicodeError, Empty."""
    told: queue.SimpleQueue[Sequence[_Address] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            told.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            told.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    answer = told.get(timeout=within_s)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _first_that_answers(addresses: Sequence[_Address], deadline: float) -> socket.socket:
    """Give each address its share of the time that is left. Raises the last one's OSError."""
    failure = OSError("it has no address")
    for number, (family, kind, protocol, _, where) in enumerate(addresses):
        share_s = (deadline - time.monotonic()) / (len(addresses) - number)
        try:
            link = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            link.settimeout(max(_LEAST_S, share_s))
            link.connect(where)
        except OSError as error:
            link.close()
            failure = error
            continue
        return link
    raise failure
