"""xcode-select -p of a Mac without Apple's tools."""

import sys

print(
    "xcode-select: error: unable to get active developer directory, use `sudo xcode-select --switch`", file=sys.stderr
)
sys.exit(2)
