"""uname of a Mac mini with an M1."""

import os
import sys

FIELDS = {
    "s": "Darwin",
    "n": os.uname().nodename,
    "r": "24.1.0",
    "v": "Darwin Kernel Version 24.1.0: Thu Oct 10 21:03:15 PDT 2024; root:xnu-11215.41.3~2/RELEASE_ARM64_T8103",
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
