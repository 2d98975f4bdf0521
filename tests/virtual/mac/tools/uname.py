"""uname of a Mac with an Apple chip."""

import os
import re
import sys
from pathlib import Path

RELEASE = re.search(r"^kern.osrelease: (.*)$", Path("/private/recorded/sysctl.txt").read_text(), re.MULTILINE)[1]
FIELDS = {
    "s": "Darwin",
    "n": os.uname().nodename,
    "r": RELEASE,
    "v": f"Darwin Kernel Version {RELEASE}: Thu Oct 10 21:03:15 PDT 2024; root:xnu-11215.41.3~2/RELEASE_ARM64_T8103",
    "m": "arm64",
    "p": "arm",
}
letters = "".join(word[1:] for word in sys.argv[1:]) or "s"
if "a" in letters:
    letters = "snrvm"
unknown = set(letters) - set(FIELDS)
if unknown or any(not word.startswith("-") for word in sys.argv[1:]):
    sys.exit("usage: uname [-amnoprsv]")
print(" ".join(text for letter, text in FIELDS.items() if letter in letters))
