"""What `melt doctor` says of the external power meter of a device: whether it answers, and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melt.records import DeviceFacts
    from melt.telemetry.meters.base import MeterFacts


@dataclass(frozen=True, slots=True)
class Metering:
    """The meter that a device's profile names, `kind` None: none. `facts` are there where it answers."""

    kind: str | None = None
    covers: str | None = None
    facts: MeterFacts | None = None
    complaint: str | None = None

    @property
    def words(self) -> str | None:
        """Say it in a line."""
        if self.kind is None:
            return None
        if self.facts is None:
            return f"{self.kind}, does not answer"
        accuracy = self.facts.accuracy
        known = "its accuracy is not in the profile" if accuracy is None else f"accurate to {100 * accuracy:g} %"
        return f"{self.facts.name}: {self.covers}, {self.facts.rate_hz:g} Hz, {known}"

    @property
    def advice(self) -> tuple[str, ...]:
        """Say what would help."""
        return () if self.complaint is None else (self.complaint,)

    @property
    def record(self) -> dict[str, Any] | None:
        """Return the same for a program."""
        from melt.codec import to_dict

        if self.kind is None:
            return None
        facts = None if self.facts is None else to_dict(self.facts)
        return {"kind": self.kind, "covers": self.covers, "answers": self.facts is not None, "facts": facts}


def metering_of(device: DeviceFacts) -> Metering:
    """Ask the meter that the lab's file names for this device. Raises UsageError for a wrong file."""
    from melt.errors import DeviceError
    from melt.session.metering import answer
    from melt.targets.profiles import lab_profile

    profile = lab_profile(device)
    if profile is None or profile.meter is None:
        return Metering()
    meter = profile.meter
    try:
        return Metering(meter.kind, meter.covers, answer(meter))
    except DeviceError as error:
        return Metering(meter.kind, meter.covers, complaint=str(error))
