"""caffeinate: runs what it is given, or waits for nothing."""

import os
import signal
import sys

words = sys.argv[1:]
while words and words[0].startswith("-"):
    taken = 2 if words[0][-1] in "tw" else 1
    words = words[taken:]
if words:
    os.execvp(words[0], words)
signal.pause()
