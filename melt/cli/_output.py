"""Where a verb writes its data: stdout, or the file that was named."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def text_output(path: Path | None) -> Iterator[TextIO]:
    """Give stdout, or a file that appears whole or not at all. Raises StoreError."""
    from melt.store.files import whole_file

    if path is None:
        yield sys.stdout
        return
    with whole_file(path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as out:
        yield out
