"""One SSH connection, kept and shared by threads: paramiko speaks the protocol.

What it lacks is added here: a deadline for what it sends, the signal that ended a program, a bell that rings for
whatever happens to a channel, and how a frozen link is found out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import paramiko
from paramiko.common import (
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    cMSG_CHANNEL_REQUEST,
    cMSG_GLOBAL_REQUEST,
)
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException

from melt.errors import Offline, TransportError, TransportTimeout

ALIVE_S = 5.0
"""How long a live link may take to answer."""
STALL_S = 10.0
"""How long a live link may take nothing of what is sent."""
_KEEP_ALIVE_S = 15
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
"""The first is the fastest of those that every OpenSSH since 2014 has: no hash is needed beside it."""

BROKEN = (SSHException, EOFError, OSError)
"""What paramiko raises where a link or a channel does not go on."""

# Without a handler its complaints, tracebacks included, would go to stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Refused(Exception):
    """The host opens no further channel on this link (MaxSessions)."""


class Session:
    """A channel in which a program runs. `bell` rings after whatever happened to it; `signal` is what ended it."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self.channel = channel
        self.bell = threading.Event()
        self.signal: str | None = None
        channel.settimeout(0.0)


class Packets(Packetizer):
    """Packets with deadlines, which notes when one came and for which session."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._sock = sock
        self._just_read: Session | None = None
        self.handled: Callable[[], None] = self.ring
        self.sessions: dict[int, Session] = {}
        self.heard = threading.Event()
        self.asked: float | None = None

    def start_handshake(self, timeout: float) -> None:
        """Start no timer: who connects has a deadline of its own, and a timer would outlive a failed handshake."""

    def write_all(self, out: Any) -> None:
        """Send bytes; a link that takes none of them for long is closed. Raises EOFError."""
        view = memoryview(out)
        deadline = time.monotonic() + STALL_S
        while view:
            try:
                count = self._sock.send(view)
            except TimeoutError:
                if not self.closed and time.monotonic() < deadline:
                    continue
                count = 0
            except BROKEN:
                count = 0
            if not count:
                # Part of a packet may have gone: nothing that comes after it could be read.
                self.close()
                raise EOFError
            view = view[count:]
            deadline = time.monotonic() + STALL_S

    def close(self) -> None:
        """Close the way to the host, which may itself be a channel of a link that is no more."""
        with suppress(*BROKEN):
            super().close()

    def read_message(self) -> tuple[int, paramiko.Message]:
        """Read a packet; paramiko has handled the one before it by then, so that its bell can ring."""
        self.handled()
        kind, message = super().read_message()
        self.asked = None
        self.heard.set()
        if MSG_CHANNEL_WINDOW_ADJUST <= kind <= MSG_CHANNEL_FAILURE:
            self._just_read = self.sessions.get(message.get_int())
            if kind == MSG_CHANNEL_REQUEST and self._just_read and message.get_text() == "exit-signal":
                message.get_boolean()
                self._just_read.signal = message.get_text()
            message.rewind()
        return kind, message

    def ring(self) -> None:
        """Tell who waits for the session of the last packet."""
        session, self._just_read = self._just_read, None
        if session is not None:
            session.bell.set()


class Link(paramiko.Transport):
    """A connection to one host. `what` is what errors call it; `at_end` is called once it is over."""

    def __init__(self, sock: Any, what: str, at_end: Callable[[], None]) -> None:
        super().__init__(sock, packetizer_class=Packets)
        assert isinstance(self.packetizer, Packets)
        self._packets = self.packetizer
        self._what = what
        self._at_end = at_end
        self._held_back: list[paramiko.Message] = []
        self._packets.handled = self._handled
        self.clear_to_send_timeout = STALL_S
        self.get_security_options().ciphers = [
            cipher for cipher in _CIPHERS if cipher in self.get_security_options().ciphers
        ]

    @property
    def is_frozen(self) -> bool:
        """Whether it was asked something long ago and has said nothing since."""
        asked = self._packets.asked
        return asked is not None and time.monotonic() - asked >= ALIVE_S

    @property
    def is_idle(self) -> bool:
        """Whether no program runs in it."""
        return not self._packets.sessions

    def run(self) -> None:
        """Read packets until the link ends; whoever waits for one of them is told then."""
        try:
            super().run()
        finally:
            self._packets.ring()
            for session in list(self._packets.sessions.values()):
                session.bell.set()
            self._at_end()

    def close(self) -> None:
        """End the link and whatever waits for it."""
        with suppress(*BROKEN):
            super().close()

    def keep(self) -> None:
        """Say something now and then, so that no router on the way forgets the link."""
        self.set_keepalive(_KEEP_ALIVE_S)

    def start_program(self, command: bytes, timeout_s: float) -> Session:
        """Let the user's login shell run a command. Raises Refused, Offline, TransportTimeout."""
        deadline = time.monotonic() + timeout_s
        self._asks()
        try:
            session = Session(self.open_session(timeout=timeout_s))
            self._packets.sessions[session.channel.chanid] = session
            request = paramiko.Message()
            request.add_byte(cMSG_CHANNEL_REQUEST)
            request.add_int(session.channel.remote_chanid)
            request.add_string("exec")
            request.add_boolean(True)
            request.add_string(command)
            # Not Channel.exec_command, which waits for the answer without a limit.
            self._send_user_message(request)
        except BROKEN as error:
            if not self.is_active() or isinstance(error, EOFError | OSError):
                raise Offline(f"{self._what}: the link broke before the program started") from error
            if time.monotonic() >= deadline:
                raise TransportTimeout(f"{self._what} gives no answer; is its link frozen?") from error
            raise Refused from error
        return session

    def end_program(self, session: Session) -> None:
        """Give a channel back."""
        self._packets.sessions.pop(session.channel.chanid, None)
        with suppress(*BROKEN):
            session.channel.close()

    def alive(self) -> None:
        """Ask for an answer. Raises TransportTimeout where none comes, after closing the link, TransportError."""
        self._packets.heard.clear()
        self._asks()
        request = paramiko.Message()
        request.add_byte(cMSG_GLOBAL_REQUEST)
        request.add_string("keepalive@openssh.com")
        request.add_boolean(True)
        try:
            self._send_user_message(request)
        except BROKEN as error:
            raise self.broken() from error
        if not self._packets.heard.wait(ALIVE_S):
            self.close()
            raise TransportTimeout(f"{self._what} gives no answer; is its link frozen?")

    def broken(self) -> TransportError:
        """Return what is to be said of a link that ended in the middle of something."""
        return Offline(f"{self._what}: the link broke before the program ended")

    def _handled(self) -> None:
        """Go on after a packet was handled."""
        self._packets.ring()
        while self._held_back and self.clear_to_send.is_set():
            self._send_user_message(self._held_back.pop(0))

    def _send_user_message(self, data: paramiko.Message) -> None:
        """Send a message, after an exchange of keys that goes on just now.

        That exchange is the work of the thread that reads: where it has to answer a channel meanwhile, paramiko lets it
        wait for itself, and the link breaks.
        """
        if threading.current_thread() is self and not self.clear_to_send.is_set():
            self._held_back.append(data)
        else:
            super()._send_user_message(data)  # type: ignore[misc]

    def _asks(self) -> None:
        if self._packets.asked is None:
            self._packets.asked = time.monotonic()
