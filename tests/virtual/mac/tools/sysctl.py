"""sysctl: nodes and names out of a recorded listing; one that is not known fails, and the others are still said."""

import sys
from pathlib import Path

LISTED = dict(
    line.partition(": ")[::2] for line in Path("/private/recorded/sysctl.txt").read_text().splitlines() if ": " in line
)
words = sys.argv[1:]
bare = "-n" in words
status = 0
for name in [word for word in words if not word.startswith("-")]:
    found = {key: value for key, value in LISTED.items() if key == name or key.startswith(name + ".")}
    if not found:
        print(f"sysctl: unknown oid '{name}'", file=sys.stderr)
        status = 1
    for key, value in found.items():
        print(value if bare else f"{key}: {value}")
sys.exit(status)
