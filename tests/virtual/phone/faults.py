"""What can happen to a phone, as a test asks for it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any


class Faults:
    """The faults of one phone; each holds until it is taken back. Raises ControlError when the phone refuses."""

    def __init__(self, send: Callable[..., dict[str, Any]]) -> None:
        self._send = send

    def __call__(self, command: str, **arguments: object) -> dict[str, Any]:
        """Send a fault by its name."""
        return self._send(command, **arguments)

    def drop(self) -> None:
        """Break all connections now; the next one works."""
        self._send("drop")

    def freeze(self) -> None:
        """Let nothing through, with TCP up: no error, no end."""
        self._send("freeze")

    def thaw(self) -> None:
        """End the freeze; what waited goes on."""
        self._send("thaw")

    def throttle(self, bytes_per_s: float) -> None:
        """Limit the link; 0 takes it back."""
        self._send("throttle", bytes_per_s=bytes_per_s)

    def latency(self, seconds: float, answers_s: float | None = None) -> None:
        """Delay each packet, those from the phone by `answers_s` where that is given; 0 takes it back.

        Of a real daemon both ways have the same.
        """
        self._send("latency", seconds=seconds, answers_s=answers_s)

    def drop_after(self, n_bytes: int) -> None:
        """Break the connection that carries the byte after so many."""
        self._send("drop_after", n_bytes=n_bytes)

    def disk_full(self) -> None:
        """Leave no room on /data."""
        self._send("disk_full")

    def disk_free(self, kb: int | None = None) -> None:
        """Leave so much room on /data; None: what the phone was made with."""
        self._send("disk_free", kb=kb)

    def reboot(self, boot_s: float | None = None, asleep_s: float = 0.0) -> None:
        """Boot anew: /data and settings stay, processes do not, clocks and boot_id begin anew.

        `boot_s`: how long it is away. `asleep_s`: CLOCK_BOOTTIME runs ahead of CLOCK_MONOTONIC by so much afterwards.
        """
        self._send("reboot", boot_s=boot_s, asleep_s=asleep_s)

    def clock_jump(self, seconds: float, boot_s: float | None = None) -> None:
        """Let CLOCK_BOOTTIME jump ahead of CLOCK_MONOTONIC by whole seconds, across a reboot.

        The wall clock cannot jump: Linux shares it between all namespaces, so it is the machine's.
        """
        self.reboot(boot_s, asleep_s=seconds)

    def unauthorized(self) -> None:
        """Forget all hosts: they must be allowed anew."""
        self._send("unauthorized")

    def authorize(self) -> None:
        """Allow all hosts, those that wait too."""
        self._send("authorize")

    def kill(self, match: str, signal_number: int = signal.SIGKILL) -> list[int]:
        """Signal the processes whose command line holds `match`; return their numbers on the phone."""
        return list(self._send("kill", match=match, signal_number=int(signal_number))["killed"])

    def memory_kill(self, match: str) -> list[int]:
        """Kill for lack of memory: the kernel's count rises, and lowmemorykiller logs it."""
        return list(self._send("kill", match=match, out_of_memory=True)["killed"])

    def ramp(self, temperature_c: float | None, seconds: float = 0.0) -> None:
        """Warm the phone to a skin temperature over a time; frequencies fall as the profile says. None: to rest."""
        self._send("ramp", temperature_c=temperature_c, seconds=seconds)

    def battery(self, **values: float | str | None) -> None:
        """Fix `level`, `status`, `current_a` (into the battery), `voltage_uv` or `temperature_c`; None frees it."""
        self._send("battery", **values)

    def plug(self, plugged: bool = True) -> None:
        """Put the charger in, or pull it; the link stays, as over Wi-Fi."""
        self._send("plug", plugged=plugged)

    def screen(self, on: bool = True) -> None:
        """Switch the screen by hand."""
        self._send("screen", on=on)

    def set_sysfs(self, values: Mapping[str, object]) -> None:
        """Write files below /sys; the physics overwrites its own ones when they change."""
        self._send("set_sysfs", values={name: str(value) for name, value in values.items()})
