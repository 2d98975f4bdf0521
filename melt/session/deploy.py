"""Put on a device what a run needs, by content: what is already there is not pushed again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from melt.engines.base import Engine
from melt.errors import DeviceError
from melt.records import Artifact
from melt.targets.base import Target
from melt.transports.base import Progress


@dataclass(frozen=True, slots=True)
class Placement:
    """Where things lie on the device."""

    model_path: str
    runner_dir: str


def deploy(target: Target, artifact: Artifact, engine: Engine, progress: Progress | None = None) -> Placement:
    """Make the model and the runner's files present on the device. Raises NoSpace, TransportError, DeviceError."""
    if target.shares_files:
        runner_dir = str(engine.runner_files()[0].parent)
        return Placement(model_path=artifact.path, runner_dir=runner_dir)
    model = Path(artifact.path)
    model_path = PurePosixPath(target.root, "blobs", artifact.sha256[:16], model.name)
    _ensure(target, model, model_path, artifact.sha256, progress)
    files = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in engine.runner_files()}
    together = hashlib.sha256("".join(sorted(files.values())).encode()).hexdigest()[:16]
    runner_dir_path = PurePosixPath(target.root, "runners", together)
    for path, sha256 in files.items():
        _ensure(target, path, runner_dir_path / path.name, sha256, None)
    return Placement(model_path=str(model_path), runner_dir=str(runner_dir_path))


def make_folder(target: Target, path: str) -> None:
    """Make a folder and its parents on the device. Raises DeviceError."""
    done = target.transport.run(["mkdir", "-p", path])
    if done.exit_code != 0:
        raise DeviceError(
            f"{target.transport.name}: cannot make {path}: {done.stderr.decode(errors='replace').strip()}"
        )


def _ensure(target: Target, local: Path, remote: PurePosixPath, sha256: str, progress: Progress | None) -> None:
    name = str(remote)
    if target.agent.hash([name]).get(name) == sha256:
        return
    make_folder(target, str(remote.parent))
    target.transport.push(local, name, progress=progress)
    if target.agent.hash([name]).get(name) != sha256:
        raise DeviceError(f"{target.transport.name}: {remote} is not what was pushed; check the device's storage")
