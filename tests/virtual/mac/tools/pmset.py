"""pmset -g, as it was recorded; what else one may ask of it, each in a file of its own."""

import sys
from pathlib import Path

words = sys.argv[1:]
if not words or words[0] != "-g":
    sys.exit("Usage:  pmset <options>")
name = "-".join(["pmset", *words[1:]])
file = Path(f"/private/control/{name}.txt")
if not file.exists():
    file = Path(f"/private/recorded/{name}.txt")
sys.stdout.write(file.read_text() if file.exists() else "")
