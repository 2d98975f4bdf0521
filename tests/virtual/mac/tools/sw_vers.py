"""sw_vers, as it was recorded."""

import sys
from pathlib import Path

sys.stdout.write(Path("/private/recorded/sw_vers.txt").read_text())
