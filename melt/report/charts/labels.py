"""Where the labels of points go: beside their mark where there is room, else farther off at the end of a line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

_BESIDE = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1))
_DIRECTIONS = 24
_RINGS_PX = (14, 24, 36, 50, 66, 84, 104)
_GAP_PX = 3.0
_TEXT_HEIGHT_PX = 13.0
_LEADER_PX = 10.0
"""Farther than this from its mark a label needs a line to it."""

_OVER_TEXT, _OVER_MARK, _OVER_EDGE, _OVER_LINE = 100.0, 12.0, 400.0, 3.0
"""What it costs to cover another label, a mark, the frame, a line; a pixel of distance costs 0.1."""
_PER_PX = 0.1


Pixel = tuple[float, float]


class Box(NamedTuple):
    """A rectangle in pixels, y downward."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: Box) -> float:
        """Return the area that both cover, as a share of the smaller."""
        if self.x1 <= other.x0 or other.x1 <= self.x0 or self.y1 <= other.y0 or other.y1 <= self.y0:
            return 0.0
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return width * height / max(1e-9, min(self.area, other.area))

    @property
    def area(self) -> float:
        """The area in square pixels."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point that wants a label: its middle, how far its mark reaches, how wide the text is. Pixels."""

    x: float
    y: float
    radius: float
    width: float

    @property
    def box(self) -> Box:
        """What the mark itself covers."""
        return Box(self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label stands, from its mark's middle: `align` is the side of the text that is at `dx`.

    `leader` is the end of the line to it, None where the label stands beside its mark.
    """

    dx: float
    dy: float
    align: Literal["left", "center", "right"]
    leader: Pixel | None
    box: Box


def placed(marks: Sequence[Mark], frame: Box, polylines: Sequence[Sequence[Pixel]] = ()) -> list[Place]:
    """Choose a place for each label, in the order of their rank: the first gets the best.

    `polylines` are drawn too, and better not covered. Where there is no room at all, the least bad place.
    """
    boxes: list[Box] = []
    lined = [_along(polyline) for polyline in polylines]
    found = []
    for mark in marks:
        others = [other.box for other in marks if other is not mark]
        best, best_cost = None, math.inf
        for least_px, places in _rings(mark):
            if best_cost <= _PER_PX * least_px:
                break
            for place in places:
                cost = _cost(place, frame, boxes, others, lined)
                if cost < best_cost:
                    best, best_cost = place, cost
        if best is None:
            raise ValueError(f"a mark at {mark.x}, {mark.y} has no place")
        boxes.append(best.box)
        found.append(best)
    return found


def _rings(mark: Mark) -> Iterator[tuple[float, Iterator[Place]]]:
    """Yield places nearer and farther, each time with the least distance that any of them has."""
    near = mark.radius + _GAP_PX
    beside = ((sx, sy, near * _diagonal(sx, sy)) for sx, sy in _BESIDE)
    yield 0.0, (_place(mark, sx * r, sy * r, sx) for sx, sy, r in beside)
    angles = [2 * math.pi * i / _DIRECTIONS for i in range(_DIRECTIONS)]
    for r in (near + ring for ring in _RINGS_PX):
        yield r, (_place(mark, r * math.cos(a), r * math.sin(a), round(math.cos(a))) for a in angles)


def _diagonal(sx: int, sy: int) -> float:
    return 0.75 if sx and sy else 1.0


def _place(mark: Mark, dx: float, dy: float, side: int) -> Place:
    half = _TEXT_HEIGHT_PX / 2
    if not side:
        # Above or below: the text's own height comes on top of the distance.
        dy += math.copysign(half, dy)
    align: Literal["left", "center", "right"] = "left" if side > 0 else "right" if side < 0 else "center"
    x0 = mark.x + dx - mark.width * (0.0 if side > 0 else 1.0 if side < 0 else 0.5)
    box = Box(x0, mark.y + dy - half, x0 + mark.width, mark.y + dy + half)
    distance = math.hypot(dx, dy) - mark.radius - (0 if side else half)
    leader = None
    if distance > _LEADER_PX:
        leader = (dx - math.copysign(2, side) if side else dx, dy if side else dy - math.copysign(half, dy))
    return Place(dx, dy, align, leader, box)


def _cost(
    place: Place, frame: Box, texts: Sequence[Box], marks: Sequence[Box], polylines: Sequence[Sequence[Box]]
) -> float:
    box = place.box
    outside = 1.0 - box.overlap(frame) if box.area else 0.0
    return (
        _OVER_EDGE * outside
        + _OVER_TEXT * sum(_touch(box, other) for other in texts)
        + _OVER_MARK * sum(_touch(box, other) for other in marks)
        + _OVER_LINE * sum(any(box.overlap(piece) for piece in line) for line in polylines)
        + _PER_PX * math.hypot(place.dx, place.dy)
    )


def _touch(box: Box, other: Box) -> float:
    """Return 0 where they are apart, and more than a half as soon as they are not: a cut letter is a lost label."""
    share = box.overlap(other)
    return 0.5 + share if share else 0.0


def _along(line: Sequence[Pixel]) -> list[Box]:
    """Return small boxes along a line."""
    found = []
    for (xa, ya), (xb, yb) in pairwise(line):
        steps = max(1, int(math.hypot(xb - xa, yb - ya) / 6))
        for i in range(steps):
            x, y = xa + (xb - xa) * i / steps, ya + (yb - ya) * i / steps
            found.append(Box(x - 1, y - 1, x + 1, y + 1))
    return found
