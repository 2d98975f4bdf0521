"""The folder on the host in which a live run is kept until it is published; the store provides it.

Everything that is needed to make a result of the run lies in it, so that another process can, after a crash.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

START = "start.json"
SNAPSHOT = "snapshot.json"
SITE = "site.json"
COLLECTED = "collected.json"
JOB = "job"
EVIDENCE = "evidence.json"
UNPLUGGED = "unplugged.json"


class RunFolder(Protocol):
    """What the session asks of the store's spool."""

    @property
    def path(self) -> Path:
        """The folder itself."""
        ...

    @property
    def journal_path(self) -> Path:
        """Where the journal is collected to."""
        ...

    def write_document(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, durably. Raises StoreError."""
        ...

    def read_document(self, name: str) -> bytes | None:
        """Return a file's content, None when it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class JobSite:
    """Where a run is going on: enough to find it again from another process."""

    device: str
    job_dir: str


def write_site(folder: RunFolder, site: JobSite) -> None:
    """Note where the run goes on, before it starts."""
    folder.write_document(SITE, json.dumps(asdict(site)).encode())


def read_site(folder: RunFolder) -> JobSite | None:
    """Return where the run was started, None when it never came so far."""
    data = folder.read_document(SITE)
    return None if data is None else JobSite(**json.loads(data))
