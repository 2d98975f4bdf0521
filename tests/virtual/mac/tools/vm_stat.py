"""vm_stat, as it was recorded."""

import sys
from pathlib import Path

sys.stdout.write(Path("/private/recorded/vm_stat.txt").read_text())
