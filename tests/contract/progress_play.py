"""Play a sweep to whoever looks at stderr: `progress_play.py DEVICES`, one word a line on stdin. Data goes to stdout.

Words: `warn` writes to stderr as anybody might; `note TEXT`; the end of stdin is that of the sweep.
"""

from __future__ import annotations

import sys

from progress_samples import events_of

from melt.cli._progress import progress
from melt.events import Note

with progress() as observe:
    for event in events_of(int(sys.argv[1])):
        observe(event)
    for line in sys.stdin:
        word, _, text = line.strip().partition(" ")
        if word == "warn":
            print("melt: stopping after what is being measured is safe", file=sys.stderr)
        else:
            observe(Note(text))
print('{"data": 1}')
