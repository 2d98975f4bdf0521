"""A virtual environment, and the Python to make it with.

Standard library only, Python 3.6 and later.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple

import board
from board import Failure
from pips import run

OLDEST, NEWEST = (3, 8), (3, 13)
"""The Pythons for which the pinned packages exist."""

Python = namedtuple("Python", "path version has_venv")
"""`version` as text, `has_venv`: whether it can make an environment with pip in it (Debian packs that apart)."""

_ASK = "import sys\nprint('%d.%d.%d' % sys.version_info[:3], flush=True)\nimport venv, ensurepip\nprint('venv')"
_UNFINISHED = "melt-unfinished"
_PYTHON_NAME = re.compile(r"python3(\.\d+)?$")
_VERIFY = """
import importlib.metadata as metadata, json, platform
import llama_cpp
found = {
    "python": platform.python_version(),
    "llama_cpp_python": llama_cpp.__version__,
    "gpu_offload": bool(llama_cpp.llama_supports_gpu_offload()),
    "onnxruntime": None,
    "onnxruntime_providers": [],
    "onnxruntime_complaint": None,
    "zeus_apple_silicon": None,
}
try:
    import onnxruntime
    found["onnxruntime"] = onnxruntime.__version__
    found["onnxruntime_providers"] = onnxruntime.get_available_providers()
except ImportError as error:
    found["onnxruntime_complaint"] = str(error)
try:
    found["zeus_apple_silicon"] = metadata.version("zeus-apple-silicon")
except metadata.PackageNotFoundError:
    pass
print("\\n" + json.dumps(found))
"""


class Environment:
    """A folder with a Python of its own. While something is put into it a note says so: broken off, it is made anew."""

    def __init__(self, folder, variables, log, say, root):
        self.folder = folder
        self.python = os.path.join(folder, "bin", "python")
        self.complaint = None
        self._variables = variables
        self._log = log
        self._say = say
        self._root = root

    def is_whole(self):
        """Whether it is there, its Python still runs, and nothing was broken off in it."""
        if os.path.exists(self._note()):
            return False
        return board.output([self.python, "-c", "import pip"]) is not None

    def make(self, base):
        """Make it, empty, with a Python that `find_python` returned. Raises Failure."""
        shutil.rmtree(self.folder, ignore_errors=True)
        run([base.path, "-m", "venv", self.folder], self._log, self._say, self._root, self._variables)

    def install(self, *words):
        """Install with pip. Raises Failure, NoMatchError."""
        with open(self._note(), "w", encoding="utf-8") as note:
            note.write(" ".join(words) + "\n")
        self.pip("install", "--no-warn-script-location", *words)
        os.unlink(self._note())

    def pip(self, *words, **variables):
        """Run its pip with further environment variables. Raises Failure, NoMatchError."""
        argv = [self.python, "-m", "pip", *words]
        run(argv, self._log, self._say, self._root, dict(self._variables, **variables))

    def verify(self):
        """Import the engines in a process of its own; return what they say, None and `complaint` where they fail."""
        try:
            done = subprocess.run(
                [self.python, "-c", _VERIFY],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._variables,
                timeout=300,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.complaint = str(error)
            return None
        try:
            return json.loads(done.stdout.decode("utf-8").strip().splitlines()[-1])
        except (ValueError, IndexError):
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["exit code %d" % done.returncode]
            self._log.write("\n".join(said) + "\n")
            self.complaint = said[-1]
            return None

    def _note(self):
        return os.path.join(self.folder, _UNFINISHED)


def find_python():
    """Return the newest Python here that the packages exist for. Raises Failure that says what to install."""
    found = sorted(_pythons(), key=lambda python: _numbers(python.version), reverse=True)
    suitable = [python for python in found if OLDEST <= _numbers(python.version)[:2] <= NEWEST]
    for python in suitable:
        if python.has_venv:
            return python
    if suitable:
        name = "python%d.%d" % _numbers(suitable[0].version)[:2]
        raise Failure(
            "%s (%s) cannot make virtual environments: `sudo apt install %s-venv`" % (name, suitable[0].path, name)
        )
    others = ", ".join("%s (%s)" % (python.version, python.path) for python in found) or "none"
    how = "`brew install python@3.12`" if sys.platform == "darwin" else "`sudo apt install python3.8 python3.8-venv`"
    raise Failure(
        "Python %d.%d to %d.%d is needed, and what is here is %s: install one, as with %s"
        % (OLDEST + NEWEST + (others, how))
    )


def _pythons():
    """Return each Python 3 that a shell would find, once for each version."""
    paths = []
    for folder in board.search_path().split(os.pathsep):
        names = sorted(glob.glob(os.path.join(folder, "python3*")))
        paths += [path for path in names if _PYTHON_NAME.match(os.path.basename(path))]
    found = {}
    for path in paths:
        said = _ask(path)
        if said:
            known = found.get(said[0])
            if known is None or (len(said) > 1 and not known.has_venv):
                found[said[0]] = Python(path, said[0], len(said) > 1)
    return found.values()


def _ask(path):
    """Return what a Python says of itself: its version, and `venv` where it has pip to put into one."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    # Without venv it fails behind its version, which counts all the same.
    return done.stdout.decode("utf-8", "replace").split()


def _numbers(version):
    return tuple(int(number) for number in version.split("."))
