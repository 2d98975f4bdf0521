"""notifyutil -g KEY: the state of a notification, which the test sets in a file."""

import itertools
import sys
from pathlib import Path

words = sys.argv[1:]
status = 1
for word, key in itertools.pairwise(words):
    if word == "-g":
        file = Path(f"/private/control/{key}")
        print(f"{key} {file.read_text().strip() if file.exists() else 0}")
        status = 0
sys.exit(status)
