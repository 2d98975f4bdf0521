"""The cable: what may happen to bytes between host and phone."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Dropped(Exception):
    """The link broke here."""


class Killable(Protocol):
    """A connection that the link can break."""

    def kill(self) -> None:
        """Abort the connection at once, without a word to the other side."""
        ...


class Link:
    """Every packet of either direction passes `gate`; faults are set as attributes.

    `bytes_per_s` 0: not throttled. `latency_s`: each packet to the phone waits so long, `answer_latency_s`: each one
    from it. `drop_after_bytes` None: never.
    """

    def __init__(self) -> None:
        self.bytes_per_s = 0.0
        self.latency_s = self.answer_latency_s = 0.0
        self.drop_after_bytes: int | None = None
        self.connections: set[Killable] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()

    async def gate(self, size: int, *, answers: bool = False) -> None:
        """Let a packet of so many bytes pass, late or never; `answers`: it comes from the phone. Raises Dropped."""
        latency_s = self.answer_latency_s if answers else self.latency_s
        if latency_s or self.bytes_per_s:
            await asyncio.sleep(latency_s + (size / self.bytes_per_s if self.bytes_per_s else 0.0))
        await self._thawed.wait()
        if self.drop_after_bytes is not None:
            self.drop_after_bytes -= size
            if self.drop_after_bytes < 0:
                self.drop_after_bytes = None
                raise Dropped

    def drop(self) -> int:
        """Break every connection; return how many there were."""
        connections = list(self.connections)
        for connection in connections:
            connection.kill()
        return len(connections)

    def freeze(self, frozen: bool) -> None:
        """Hold everything back, TCP stays up; or let it flow again."""
        if frozen:
            self._thawed.clear()
        else:
            self._thawed.set()
