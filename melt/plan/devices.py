"""Devices as a plan names them: by their address, or by their model, of which any will do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from melt.errors import UsageError
from melt.plan import values

_MAX_COUNT = 1000
_BY_MODEL = re.compile(r"model:(?P<model>.*?)(?::(?P<count>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class ByModel:
    """`count` devices of a model: the name of a profile, or what the devices call themselves."""

    model: str
    count: int = 1

    @property
    def selector(self) -> str:
        """How it stands among the devices of a plan: `model:pixel-8`, `model:pixel-8:2`."""
        return f"model:{self.model}" + (f":{self.count}" if self.count > 1 else "")


def by_model(selector: str) -> ByModel | None:
    """Return what a device of a plan asks for by its model, None where it is an address. Raises UsageError."""
    match = _BY_MODEL.fullmatch(selector)
    if match is None:
        return None
    if not match["model"].strip():
        raise UsageError(f"expected a model such as model:pixel-8 or model:pixel-8:2, found {values.shown(selector)}")
    return ByModel(values.name(match["model"]), 1 if match["count"] is None else count(match["count"]))


def device(text: str) -> str:
    """Read a device: an address as it is, a model as `model:NAME` or `model:NAME:COUNT`."""
    text = values.name(text)
    wanted = by_model(text)
    return text if wanted is None else wanted.selector


count = values.whole(1, _MAX_COUNT)
"""How many devices of a model."""
