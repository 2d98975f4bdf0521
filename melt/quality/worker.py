"""Run agents/runners/llama_quality.py in a process of its own, for llama.cpp may abort, and read what it prints."""

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
    """Give the worker's events as they come; ends when all is scored. `data` is the text, or the items as JSON.

    Raises UsageError or ModelError where the text, the task or a model file is to blame, else EngineError.
    """
    with tempfile.TemporaryDirectory(prefix="melt-quality-") as folder:
        path, log = Path(folder, "job.json"), Path(folder, "stderr")
        Path(folder, "data").write_bytes(data)
        path.write_text(json.dumps({**job, "data": f"{folder}/data"}), encoding="utf-8")
        with log.open("wb") as stderr:
            worker = subprocess.Popen(
                [sys.executable, str(agents_dir() / "runners" / _RUNNER), str(path)],
                # Held open: the worker ends when it is closed, also when melt is killed.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        finished = False
        with worker:
            try:
                for event in _events(worker):
                    finished = event["event"] == "finish"
                    yield event
                worker.wait()
            finally:
                worker.kill()
        if not finished:
            raise _died(worker.returncode, log)


def _events(worker: subprocess.Popen[bytes]) -> Iterator[Event]:
    assert worker.stdout is not None
    for line in worker.stdout:
        if not line.endswith(b"\n"):
            return  # it died while it wrote
        event = json.loads(line)
        if event["event"] == "error":
            raise explained(event["code"], event["message"])
        yield event


def explained(code: str, message: str) -> MeltError:
    """Return the error for a worker's `error` event, by whose fault it is."""
    if code in _MODELS_FAULT:
        return ModelError(message)
    if code == "out_of_memory":
        return EngineError(f"{message}; {GOES_ON} when there is more memory")
    return _USERS_FAULT.get(code, EngineError)(message)


def _died(status: int, log: Path) -> EngineError:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if status == -signal.SIGKILL:
        return EngineError(f"the evaluation was killed, most likely because memory ran out; {GOES_ON}")
    ended = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with exit code {status}"
    return EngineError(f"the evaluation {ended}: {(lines or ['it said nothing'])[-1]}; {GOES_ON}")
