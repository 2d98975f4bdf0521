"""Run the programs that evaluate models in processes of their own, for engines may abort; read what they print."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from melt._layout import agents_dir
from melt.errors import EngineError, MeltError, ModelError, UsageError

Event = Mapping[str, Any]

_RUNNER = "llama_quality.py"
_USERS_FAULT = {"bad_request": UsageError, "context_too_long": UsageError}
_MODELS_FAULT = ("bad_model", "unsupported_model")
GOES_ON = "what was done is kept, and the same command goes on from there"


def engine_version() -> str:
    """Name the package that scores, with its version. Raises EngineError where it is not installed."""
    try:
        return f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"
    except importlib.metadata.PackageNotFoundError:
        raise EngineError("quality is evaluated with llama-cpp-python: pip install 'melt[llama]'") from None


def score(job: Mapping[str, Any], data: bytes) -> Iterator[Event]:
    """Give the events of llama_quality.py as they come; ends when all is scored. `data` is the text, or items as JSON.

    Raises UsageError or ModelError where the text, the task or a model file is to blame, else EngineError.
    """
    for event in run_program(_RUNNER, job, data, hint=f"; {GOES_ON}"):
        if event["event"] == "error":
            raise explained(event["code"], event["message"])
        yield event


def run_program(name: str, job: Mapping[str, Any], data: bytes | None = None, *, hint: str = "") -> Iterator[Event]:
    """Run a program of agents/runners on a job, and give its events as they come; the last is `finish` or `error`.

    `data` lies in a file that the job's `data` names then. Raises EngineError, its sentence with `hint` at the end,
    when the program died.
    """
    with tempfile.TemporaryDirectory(prefix="melt-quality-") as folder:
        path, log = Path(folder, "job.json"), Path(folder, "stderr")
        if data is not None:
            Path(folder, "data").write_bytes(data)
            job = {**job, "data": f"{folder}/data"}
        path.write_text(json.dumps(job), encoding="utf-8")
        with log.open("wb") as stderr:
            worker = subprocess.Popen(
                [sys.executable, str(agents_dir() / "runners" / name), str(path)],
                # Held open: the worker ends when it is closed, also when melt is killed.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        told = False
        with worker:
            try:
                for event in _events(worker):
                    told = event["event"] in ("finish", "error")
                    yield event
                worker.wait()
            finally:
                worker.kill()
        if not told:
            raise _died(worker.returncode, log, hint)


def _events(worker: subprocess.Popen[bytes]) -> Iterator[Event]:
    assert worker.stdout is not None
    for line in worker.stdout:
        if not line.endswith(b"\n"):
            return  # it died while it wrote
        yield json.loads(line)


def explained(code: str, message: str) -> MeltError:
    """Return the error for a worker's `error` event, by whose fault it is."""
    if code in _MODELS_FAULT:
        return ModelError(message)
    if code == "out_of_memory":
        return EngineError(f"{message}; {GOES_ON} when there is more memory")
    return _USERS_FAULT.get(code, EngineError)(message)


def _died(status: int, log: Path, hint: str) -> EngineError:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if status == -signal.SIGKILL:
        return EngineError(f"the evaluation was killed, most likely because memory ran out{hint}")
    ended = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with exit code {status}"
    return EngineError(f"the evaluation {ended}: {(lines or ['it said nothing'])[-1]}{hint}")
