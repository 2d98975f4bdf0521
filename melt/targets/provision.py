"""The Python of melt on a board or Mac: which packages `melt provision` puts there, and what a device has of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from melt.targets.base import VENV
from melt.transports.base import Transport

RECORD = "melt-provision.json"
"""What was installed and with which flags, in the virtual environment's folder."""
JOB_PREFIX = "provision-"
"""How the folders of jobs that provision begin; all others are runs."""
LLAMA_CPP = "llama-cpp-python==0.3.36"
ONNXRUNTIME = "onnxruntime==1.23.2"
OTHERS = (
    f"{ONNXRUNTIME}; python_version >= '3.10'",
    # The last release with wheels for Python 3.8, which is JetPack 5's.
    "onnxruntime==1.19.2; python_version < '3.10'",
    "zeus-apple-silicon==1.1.0; sys_platform == 'darwin' and python_version >= '3.9'",
)
"""What is installed beside llama-cpp-python. The pins are those of setup.cfg's extras, but for the older Pythons."""

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

    @property
    def lacking(self) -> tuple[str, ...]:
        """Which pinned packages are not there in the version that this melt works with."""
        newer = tuple(int(number) for number in self.python.split(".")[:2]) >= (3, 10)
        onnxruntime = OTHERS[0 if newer else 1].partition(";")[0]
        wanted = ((LLAMA_CPP, self.llama_cpp_version), (onnxruntime, self.onnxruntime_version))
        return tuple(pin for pin, version in wanted if pin.partition("==")[2] != version)


@dataclass(frozen=True, slots=True)
class Said:
    """One line of agents/provision/provision.py: `event` names it, `data` has its other fields."""

    event: str
    data: Mapping[str, Any]


def parse_line(line: bytes) -> Said | None:
    """Read a line of the program on the device; None for any that is not an event of it."""
    try:
        data = json.loads(line)
        return Said(data.pop("event"), data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write_wish(root: str, job_dir: str, *, gpu: bool, fresh: bool) -> bytes:
    """Write what the program on the device is to do."""
    asked = {"root": root, "job": job_dir, "llama_cpp": LLAMA_CPP, "others": OTHERS, "gpu": gpu, "fresh": fresh}
    return json.dumps(asked).encode()


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
