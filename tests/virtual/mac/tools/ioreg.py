"""ioreg -rd1 -c CLASS or -n NAME, as it was recorded; nothing of what the registry does not have."""

import itertools
import sys
from pathlib import Path

words = sys.argv[1:]
wanted = next((after for word, after in itertools.pairwise(words) if word in ("-c", "-n")), None)
if wanted is None:
    sys.exit("usage: ioreg [-abfilrtx] [-c class] [-d depth] [-k key] [-n name] [-p plane] [-w width]")
file = Path(f"/private/recorded/ioreg-{wanted}.txt")
sys.stdout.write(file.read_text() if file.exists() else "")
