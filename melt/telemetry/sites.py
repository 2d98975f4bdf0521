"""How sites of power meters are called, where platforms that name them and analysis that adds them up must agree."""

from __future__ import annotations

RAIL = "rail "
"""What the site of a power rail begins with; those are added up where nothing measures the whole."""
SOC = "soc "
"""What the sites of a chip's parts begin with."""
SMC = "smc"
"""The site of a whole Mac's power as often as it was read."""
SYSTEM = "system"
"""The site of the same as often as it was renewed."""
METER = "meter: "
"""What the site of an external power meter begins with; what it covers comes behind it."""
