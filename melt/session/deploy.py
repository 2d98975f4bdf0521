"""Put on a device what a run needs, by content: what is already there is not pushed again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from melt._layout import agents_dir
from melt.engines.base import Engine
from melt.errors import DeviceError, UsageError
from melt.models.digest import sha256_of
from melt.records import Artifact, Inputs
from melt.targets import runners
from melt.targets.base import Target
from melt.targets.blobs import Blobs
from melt.transports.base import Progress


@dataclass(frozen=True, slots=True)
class Placement:
    """Where things lie on the device; `inputs_path` None: the workload has no file of input tensors."""

    model_path: str
    runner_dir: str
    streams_dir: str
    inputs_path: str | None = None


def deploy(
    target: Target,
    artifact: Artifact,
    engine: Engine,
    progress: Progress | None = None,
    *,
    with_streams: bool = False,
    inputs: Inputs | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Placement:
    """Make the model and the runner's files present on the device; `say` is told when a runner must be built first.

    `with_streams` asks for the programs of agents/streams too, `inputs` for a file of input tensors.
    Raises NoSpace, TransportError, DeviceError, EngineError, UsageError where `inputs` are not what was asked for.
    """
    if inputs is not None:
        check_inputs(inputs)
    files = engine.runner_files()
    built = engine.built_runner()
    if built is not None:
        files = (*files, runners.ensure(built, say))
    blobs = Blobs(target.transport, target.agent, target.root)
    streams_dir = deploy_streams(target, blobs) if with_streams else ""
    if target.shares_files:
        return Placement(artifact.path, str(files[-1].parent), streams_dir, None if inputs is None else inputs.path)
    # The runner first: it is small, and what is wrong with it is found out before gigabytes travel.
    runner_dir = _together(blobs, files)
    inputs_path = None if inputs is None else blobs.ensure(Path(inputs.path), inputs.sha256, progress=progress)
    model_path = blobs.ensure(Path(artifact.path), artifact.sha256, progress=progress)
    return Placement(model_path, runner_dir, streams_dir, inputs_path)


def check_inputs(inputs: Inputs) -> None:
    """Raise UsageError where the file of input tensors is gone, or another than the plan was made with."""
    path = Path(inputs.path)
    if not path.is_file():
        raise UsageError(f"the inputs {path} are not there any more: put the file back, or make the plan anew")
    if sha256_of(path) != inputs.sha256:
        raise UsageError(f"the inputs {path} have changed since the plan was made: make it anew")


def deploy_streams(target: Target, blobs: Blobs) -> str:
    """Make the programs of agents/streams present on the device and return their folder there.

    Raises NoSpace, TransportError, DeviceError.
    """
    streams = agents_dir() / "streams"
    return str(streams) if target.shares_files else _together(blobs, sorted(streams.glob("*.py")))


def _together(blobs: Blobs, files: Iterable[Path]) -> str:
    return blobs.ensure_together({path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})


def make_folder(target: Target, path: str) -> None:
    """Make a folder and its parents on the device. Raises DeviceError."""
    done = target.transport.run(["mkdir", "-p", path])
    if done.exit_code != 0:
        raise DeviceError(
            f"{target.transport.name}: cannot make {path}: {done.stderr.decode(errors='replace').strip()}"
        )
