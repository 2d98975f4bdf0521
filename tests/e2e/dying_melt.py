"""Melt as a process that kills itself at a step: `dying_melt.py before|after MODULE:NAME WORD…`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

from melt.cli.main import main


def die_at(when: str, step: str) -> None:
    """Replace a step by one that ends this process with SIGKILL, as soon as it begins or when it is done."""
    module_name, _, path = step.partition(":")
    *parents, name = path.split(".")
    holder: Any = importlib.import_module(module_name)
    for parent in parents:
        holder = getattr(holder, parent)
    real = getattr(holder, name)

    def dying(*args: Any, **kwargs: Any) -> None:
        if when == "after":
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(holder, name, dying)


if __name__ == "__main__":
    die_at(sys.argv[1], sys.argv[2])
    sys.exit(main(sys.argv[3:]))
