"""sudo -n: lets powermetrics run where the test granted that, and nothing else."""

import os
import sys
from pathlib import Path

words = sys.argv[1:]
if words[:1] == ["-n"]:
    words = words[1:]
granted = Path("/private/control/sudo")
names = granted.read_text().split() if granted.exists() else []
if words and Path(words[0]).name in names:
    program = words[0] if words[0].startswith("/") else f"/usr/bin/{words[0]}"
    os.execve(program, words, {**os.environ, "STANDS_IN_FOR_ROOT": "1"})
sys.exit("sudo: a password is required")
