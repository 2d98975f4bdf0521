"""Melt that waits for a device no longer than so many seconds: `impatient_melt.py SECONDS WORD…`."""

from __future__ import annotations

import sys

from melt.session import patience

if __name__ == "__main__":
    # Before anything else takes it from there.
    patience.BOOT_S = float(sys.argv[1])
    kept = patience.patiently.__kwdefaults__
    assert kept is not None
    kept["within_s"] = patience.BOOT_S
    from melt.cli.main import main

    sys.exit(main(sys.argv[2:]))
