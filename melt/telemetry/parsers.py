"""Raw bytes to numbers: factories of pure parsers. None of them raises; a value that is not there is NaN.

`per_unit` is how many of the file's units make one of ours: 1000 for millidegrees, 1e-3 for kHz.
The formats are those of https://docs.kernel.org/filesystems/proc.html and https://docs.kernel.org/hwmon/sysfs-interface.html.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence

from melt.targets.cpus import parse_cpulist
from melt.telemetry.base import Parser

USER_HZ = 100
"""Ticks per second of the times in /proc. It is ABI (include/asm-generic/param.h): the same on x86, Arm and RISC-V."""

_NAN = math.nan
_BLANKS = b" \t\r\n\0"
_KEYED_LINE = re.compile(rb"^([^:\n]+):[ \t]*([0-9]+)([ \t]+kB)?[ \t]*$", re.MULTILINE)
_CPU_LINE = re.compile(rb"^cpu([0-9]*)((?: +[0-9]+){4,})\n", re.MULTILINE)
_ALLOWED_LINE = re.compile(rb"^Cpus_allowed_list:[ \t]*([0-9,-]+)[ \t]*$", re.MULTILINE)
_PRESSURE_LINE = re.compile(rb"^(some|full) .*\btotal=([0-9]+)", re.MULTILINE)


def number(per_unit: float = 1.0, *, copies: int = 1, valid: tuple[float, float] = (-math.inf, math.inf)) -> Parser:
    """Make a parser of a file with one number; `copies` of it where the number holds for several sites.

    A value outside `valid`, in our unit, is NaN.
    """

    def parse(raw: bytes) -> tuple[float, ...]:
        value = _float(raw, per_unit)
        return (value if valid[0] <= value <= valid[1] else _NAN,) * copies

    return parse


def joined(*parsers: Parser) -> Parser:
    """Make a parser of a file that several parsers read, one after the other."""

    def parse(raw: bytes) -> tuple[float, ...]:
        return tuple(value for part in parsers for value in part(raw))

    return parse


def word(values: Mapping[str, float]) -> Parser:
    """Make a parser of a file with one word out of a known set."""
    known = {key.encode(): value for key, value in values.items()}

    def parse(raw: bytes) -> tuple[float, ...]:
        return (known.get(raw.strip(_BLANKS), _NAN),)

    return parse


def name_number(raw: bytes) -> tuple[float, ...]:
    """Read a file with any one word as a number that stands for it: equal words, equal numbers."""
    text = raw.strip(_BLANKS)
    return (float(zlib.crc32(text)) if text else _NAN,)


def keyed(*keys: str) -> Parser:
    """Make a parser of `Key:  123 kB` lines (/proc/meminfo, /proc/PID/status); what is in kB comes out in bytes."""
    wanted = [key.encode() for key in keys]

    def parse(raw: bytes) -> tuple[float, ...]:
        found = {key: float(value) * (1024 if unit else 1) for key, value, unit in _KEYED_LINE.findall(raw)}
        return tuple(_finite(found.get(key, _NAN)) for key in wanted)

    return parse


def cpu_times(cpus: Sequence[int]) -> Parser:
    """Make a parser of /proc/stat: busy and total seconds of each CPU, then the seconds stolen from all of them.

    Busy is everything but idle and iowait. Guest time is inside user time. A CPU that is offline has no line.
    """

    def parse(raw: bytes) -> tuple[float, ...]:
        busy_total: dict[int, tuple[float, float]] = {}
        stolen = _NAN
        for index, fields in _CPU_LINE.findall(raw):
            ticks = [float(field) for field in fields.split()][:8]
            if index:
                total = sum(ticks)
                busy_total[int(index)] = ((total - ticks[3] - sum(ticks[4:5])) / USER_HZ, total / USER_HZ)
            elif len(ticks) == 8:
                stolen = ticks[7] / USER_HZ
        values = [value for cpu in cpus for value in busy_total.get(cpu, (_NAN, _NAN))]
        return tuple(_finite(value) for value in (*values, stolen))

    return parse


def process_times(raw: bytes) -> tuple[float, ...]:
    """Parse /proc/PID/stat: user s, system s, minor faults, major faults, the CPU it last ran on.

    The second field is the program's name in parentheses and may hold anything: counting begins after the last one.
    """
    fields = raw[raw.rfind(b")") + 1 :].split() if b")" in raw else []
    if len(fields) < 37:
        return (_NAN,) * 5
    return (
        _float(fields[11], USER_HZ),
        _float(fields[12], USER_HZ),
        _float(fields[7], 1),
        _float(fields[9], 1),
        _float(fields[36], 1),
    )


def allowed_cpus(raw: bytes) -> tuple[float, ...]:
    """Parse how many CPUs /proc/PID/status says the process may use."""
    found = _ALLOWED_LINE.search(raw)
    return (_NAN,) if found is None else (float(len(parse_cpulist(found[1].decode()))),)


def pressure(*kinds: str) -> Parser:
    """Make a parser of /proc/pressure/*: the seconds stalled since boot, for `some` and `full`."""
    wanted = [kind.encode() for kind in kinds]

    def parse(raw: bytes) -> tuple[float, ...]:
        found = {kind: _float(total, 1e6) for kind, total in _PRESSURE_LINE.findall(raw)}
        return tuple(found.get(kind, _NAN) for kind in wanted)

    return parse


def csv_fields(first: int, per_units: Sequence[float]) -> Parser:
    """Make a parser of a line of comma-separated numbers, from field `first` on; `[N/A]` and words are NaN."""

    def parse(raw: bytes) -> tuple[float, ...]:
        fields = raw.split(b",")[first:]
        fields += [b""] * (len(per_units) - len(fields))
        return tuple(_float(field, per_unit) for field, per_unit in zip(fields, per_units, strict=False))

    return parse


def _float(raw: bytes, per_unit: float) -> float:
    try:
        return _finite(float(raw.strip(_BLANKS)) / per_unit)
    except ValueError:
        return _NAN


def _finite(value: float) -> float:
    return value if math.isfinite(value) else _NAN
