"""Two themes, light and dark. Specifications name roles (`{"expr": "recommended"}`), a theme gives them colours.

The colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which the colour-blind can tell apart, darkened
for white paper where their contrast is under 3:1. Nothing is told by colour alone: shapes and dashes go with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Spec = dict[str, Any]
"""A Vega-Lite specification, or a part of one."""

FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
"""Fonts of which every system has one: nothing is fetched."""

TEXT_PX, TITLE_PX = 11, 15

DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (4, 4), (1, 3))
"""How the lines of a panel are told apart without colour, in the order of its series."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of one theme. `series` are for lines of equal rank, `roles` for meanings."""

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    roles: Mapping[str, str]

    def config(self) -> Spec:
        """Return the Vega-Lite configuration that draws any specification of this package in this theme."""
        text = {"labelColor": self.ink, "titleColor": self.ink, "labelFontSize": TEXT_PX, "titleFontSize": TEXT_PX}
        roles = {**self.roles, "paper": self.paper, "ink": self.ink, "muted": self.muted, "line": self.grid}
        return {
            "background": self.paper,
            "font": FONT,
            "padding": 8,
            "params": [{"name": name, "value": colour} for name, colour in roles.items()],
            "range": {"category": list(self.series)},
            "view": {"stroke": self.grid},
            "axis": {
                **text,
                "gridColor": self.grid,
                "domainColor": self.muted,
                "tickColor": self.muted,
                "titleFontWeight": "normal",
                "titlePadding": 8,
                "labelOverlap": "greedy",
            },
            "legend": {
                **text,
                "titleFontWeight": "normal",
                "labelLimit": 180,
                "layout": {"bottom": {"direction": "vertical", "margin": 8}},
            },
            "title": {
                "anchor": "start",
                "color": self.ink,
                "fontSize": TITLE_PX,
                "offset": 12,
                "subtitleColor": self.muted,
                "subtitleFontSize": TEXT_PX + 1,
                "subtitlePadding": 5,
            },
            "text": {"color": self.ink, "fontSize": TEXT_PX},
            "rule": {"color": self.muted},
        }


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1b1f24",
    muted="#5b636e",
    grid="#dfe3e8",
    series=("#0072b2", "#c24e00", "#00805d", "#a8447f", "#946300", "#2f86b5"),
    roles=MappingProxyType(
        {
            "recommended": "#00805d",
            "front": "#0072b2",
            "dominated": "#7b838e",
            "refused": "#b46a00",
            "failed": "#c24e00",
            "prefill": "#e69f00",
            "decode": "#56b4e9",
            "warmup": "#8a8f98",
            "preparing": "#cc79a7",
        }
    ),
)
DARK = Theme(
    name="dark",
    paper="#14171c",
    ink="#e8eaed",
    muted="#a3abb6",
    grid="#2f353e",
    series=("#56b4e9", "#f0883e", "#2cc298", "#e29cc3", "#f0e442", "#9ecbe6"),
    roles=MappingProxyType(
        {
            "recommended": "#2cc298",
            "front": "#56b4e9",
            "dominated": "#9aa3ae",
            "refused": "#e6b13a",
            "failed": "#f0883e",
            "prefill": "#e69f00",
            "decode": "#56b4e9",
            "warmup": "#8a8f98",
            "preparing": "#cc79a7",
        }
    ),
)
THEMES: Mapping[str, Theme] = MappingProxyType({theme.name: theme for theme in (LIGHT, DARK)})
