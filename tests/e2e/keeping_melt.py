"""Melt that keeps a copy of what each run's result is made from: `keeping_melt.py FOLDER WORD…`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from melt.fleet import finish
from melt.session.folder import RunFolder
from melt.traces import RunBundle

if __name__ == "__main__":
    kept, assemble = Path(sys.argv[1]), finish.assemble

    def keep(folder: RunFolder) -> RunBundle:
        shutil.copytree(folder.path, kept / folder.path.name)
        return assemble(folder)

    # Before anything else takes it from there.
    finish.assemble = keep
    from melt.cli.main import main

    sys.exit(main(sys.argv[2:]))
