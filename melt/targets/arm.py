"""Names of Arm cores by implementer and part, as /proc/cpuinfo gives them (the MIDR register).

Source: the technical reference manuals; the kernel keeps the same numbers in arch/arm64/include/asm/cputype.h.
"""

from __future__ import annotations

from collections import Counter

_CORES: dict[int, tuple[str, dict[int, str]]] = {
    0x41: (
        "Arm",
        {
            0xC07: "Cortex-A7",
            0xC09: "Cortex-A9",
            0xC0F: "Cortex-A15",
            0xD03: "Cortex-A53",
            0xD04: "Cortex-A35",
            0xD05: "Cortex-A55",
            0xD07: "Cortex-A57",
            0xD08: "Cortex-A72",
            0xD09: "Cortex-A73",
            0xD0A: "Cortex-A75",
            0xD0B: "Cortex-A76",
            0xD0C: "Neoverse-N1",
            0xD0D: "Cortex-A77",
            0xD40: "Neoverse-V1",
            0xD41: "Cortex-A78",
            0xD42: "Cortex-A78AE",
            0xD44: "Cortex-X1",
            0xD46: "Cortex-A510",
            0xD47: "Cortex-A710",
            0xD48: "Cortex-X2",
            0xD49: "Neoverse-N2",
            0xD4D: "Cortex-A715",
            0xD4E: "Cortex-X3",
            0xD4F: "Neoverse-V2",
            0xD80: "Cortex-A520",
            0xD81: "Cortex-A720",
            0xD82: "Cortex-X4",
        },
    ),
    0x4E: ("NVIDIA", {0x003: "Denver 2", 0x004: "Carmel"}),
    0x51: ("Qualcomm", {0x001: "Oryon", 0x802: "Kryo 3XX Gold", 0x803: "Kryo 3XX Silver", 0x804: "Kryo 4XX Gold"}),
    0x61: ("Apple", {0x022: "Icestorm (M1)", 0x023: "Firestorm (M1)", 0x032: "Blizzard (M2)", 0x033: "Avalanche (M2)"}),
    0xC0: ("Ampere", {0xAC3: "Ampere-1", 0xAC4: "Ampere-1a"}),
}


def describe_cores(cores: list[tuple[int, int]]) -> str:
    """Return `4x Cortex-A55 + 2x Cortex-A76` for (implementer, part) of each CPU, in the order of their first one."""
    counts = Counter(cores)
    return " + ".join(f"{count}x {_core(implementer, part)}" for (implementer, part), count in counts.items())


def _core(implementer: int, part: int) -> str:
    vendor, parts = _CORES.get(implementer, (f"implementer {implementer:#04x}", {}))
    return parts.get(part, f"{vendor} part {part:#05x}")
