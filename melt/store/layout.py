"""Where a store lies and what lies where inside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from melt._layout import checkout_root


def default_root() -> Path:
    """Return the store's folder: MELT_STORE if set, `results/` in a checkout, else the user's data folder."""
    named = os.environ.get("MELT_STORE")
    if named:
        return Path(named).expanduser()
    checkout = checkout_root()
    if checkout is not None:
        return checkout / "results"
    import platformdirs

    return platformdirs.user_data_path("melt") / "results"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders and files of a store."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file with every record."""
        return self.root / "runs.sqlite"

    @property
    def traces(self) -> Path:
        """The folder with one folder per published run."""
        return self.root / "traces"

    @property
    def spool(self) -> Path:
        """The folder with one folder per run that is still going on."""
        return self.root / "spool"

    @property
    def quality(self) -> Path:
        """The folder with the journals of evaluations that are going on or were cut short."""
        return self.root / "quality"

    def run_folder(self, run_id: str) -> Path:
        """The published files of a run."""
        return self.traces / run_id
