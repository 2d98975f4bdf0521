"""The Python of melt on a board or Mac: which packages `melt provision` puts there, and what a device has of them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from melt.targets.base import VENV
from melt.transports.base import Transport

RECORD = "melt-provision.json"
"""What was installed and with which flags, in the virtual environment's folder."""
LLAMA_CPP = "llama-cpp-python==0.3.36"
ONNXRUNTIME = "onnxruntime==1.23.2"
ZEUS = "zeus-apple-silicon==1.1.0"
REQUIREMENTS = (
    LLAMA_CPP,
    # Python 3.8 is JetPack 5's; the last release with wheels for it.
    f"{ONNXRUNTIME}; python_version >= '3.10'",
    "onnxruntime==1.19.2; python_version < '3.10'",
    f"{ZEUS}; sys_platform == 'darwin'",
)
"""The pins of setup.cfg's extras, and what the Pythons of older boards get instead."""

_LOOK = """
import importlib.metadata as metadata, json, platform, sys
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
try:
    with open(sys.prefix + "/" + sys.argv[1], encoding="utf-8") as file:
        record = json.load(file)
except (OSError, ValueError):
    record = {}
found = {name: version(name) for name in ("llama-cpp-python", "onnxruntime")}
print(json.dumps(dict(found, python=platform.python_version(), backend=record.get("backend"))))
"""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What a device's environment has; None where a package is not there. `backend` is what llama.cpp was built for."""

    python: str
    llama_cpp_version: str | None
    onnxruntime_version: str | None
    backend: str | None


def provisioned(transport: Transport, root: str) -> Provisioned | None:
    """Ask the environment of `melt provision` what it has; None where there is none. Raises TransportError."""
    done = transport.run((f"{root}/{VENV}/bin/python", "-c", _LOOK, RECORD))
    if done.exit_code:
        return None
    try:
        said = json.loads(done.stdout)
        return Provisioned(said["python"], said["llama-cpp-python"], said["onnxruntime"], said["backend"])
    except (ValueError, KeyError, TypeError):
        return None
