"""llama-cpp-python as a wheel for this very device: kept from before, from the index for the CPU, or built here.

pip's own cache of wheels plays no part: it knows name and version, and would bring back one of other CMake flags.
Standard library only, Python 3.6 and later.
"""

import glob
import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile

import board
from board import Failure
from pips import NoMatchError

_MB = 1 << 20
_BUILD_BYTES = {"cuda": 3000 * _MB, "metal": 1500 * _MB, "cpu": 1200 * _MB}
# What the package's pyproject.toml asks for, and what that in turn asks for where the system has none.
_TOOLS = ("scikit-build-core[pyproject]>=0.9.2", "cmake>=3.21", "ninja>=1.11")


class LlamaWheel:
    """The wheel for one way of building. After `find` or `build`, `built` says whether that was done here."""

    def __init__(self, requirement, build, work, variables, say):
        self._requirement = requirement
        self._build = build
        self._work = work
        self._variables = variables
        self._say = say
        how = json.dumps([requirement, build.cmake_args, build.cuda, platform.machine()])
        key = hashlib.sha256(how.encode()).hexdigest()[:12]
        self._kept = os.path.join(work, "wheels", key)
        self._folder = os.path.join(work, "build", key)
        self.built = None

    def find(self, environment):
        """Return the wheel kept from before, or the index's where the CPU is all there is; else None."""
        kept = glob.glob(os.path.join(self._kept, "*.whl"))
        if kept:
            self.built = True
            return kept[0]
        if self._build.backend != "cpu":
            return None
        offered = _emptied(os.path.join(self._work, "offered"))
        try:
            environment.pip("download", "--no-deps", "--only-binary=:all:", "--dest", offered, self._requirement)
        except NoMatchError:
            return None
        self.built = False
        return glob.glob(os.path.join(offered, "*.whl"))[0]

    def build(self, environment):
        """Build it from source and return its path; what an earlier attempt compiled is not compiled again.

        Raises Failure.
        """
        need(self._work, _BUILD_BYTES[self._build.backend] - _size(self._folder), "the build of llama.cpp")
        _check_compiler()
        tools = self._tools(environment)
        source = self._source(environment, tools)
        arriving = _emptied(self._kept + ".partial")
        self._say("activity", what="compiling with %d at once" % self._build.jobs)
        environment.pip(
            *("wheel", "-v", "--no-deps", "--no-build-isolation", "--wheel-dir", arriving, source),
            PATH=os.path.join(tools, "bin") + os.pathsep + self._variables["PATH"],
            PYTHONPATH=tools,
            CMAKE_ARGS=" ".join(self._build.cmake_args),
            CMAKE_BUILD_PARALLEL_LEVEL=str(self._build.jobs),
            SKBUILD_BUILD_DIR=os.path.join(self._folder, "cmake"),
            **self._build.environment,
        )
        shutil.rmtree(self._kept, ignore_errors=True)
        os.rename(arriving, self._kept)
        self.built = True
        return glob.glob(os.path.join(self._kept, "*.whl"))[0]

    def clean_up(self):
        """Remove what only building needs; the wheel stays, for an environment that must be made anew."""
        for name in ("build", "tools", "offered", "tmp", "cache"):
            shutil.rmtree(os.path.join(self._work, name), ignore_errors=True)

    def _tools(self, environment):
        """Return the folder of what builds it, apart from the environment, which is to have the engines alone."""
        tools = os.path.join(self._work, "tools")
        if not os.path.isdir(tools):
            arriving = _emptied(tools + ".partial")
            environment.pip("install", "--no-warn-script-location", "--prefer-binary", "--target", arriving, *_TOOLS)
            os.rename(arriving, tools)
        return tools

    def _source(self, environment, tools):
        """Return the folder of the source, the same at each attempt: CMake goes on only where it began."""
        source = os.path.join(self._folder, "source")
        if not os.path.isdir(source):
            arriving = _emptied(self._folder)
            package = self._requirement.partition("==")[0]
            options = ("--no-deps", "--no-build-isolation", "--no-binary", package, "--dest", arriving)
            environment.pip("download", *options, self._requirement, PYTHONPATH=tools)
            archive = glob.glob(os.path.join(arriving, "*.tar.gz"))[0]
            unpacked = os.path.join(arriving, "unpacked")
            with tarfile.open(archive) as tar:
                safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                tar.extractall(unpacked, **safely)
            os.unlink(archive)
            os.rename(os.path.join(unpacked, os.listdir(unpacked)[0]), source)
        return source


def need(folder, wanted_bytes, what):
    """Raise Failure where the file system of a folder has less than so many bytes free."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < wanted_bytes:
        raise Failure(
            "%s needs %d MB of disk below %s, %d MB is free: make room, then provision again"
            % (what, wanted_bytes // _MB, folder, free_bytes // _MB)
        )


def _check_compiler():
    if sys.platform == "darwin":
        if board.output(["xcode-select", "-p"]) is None:
            raise Failure("there is no C++ compiler: `xcode-select --install`")
    elif not any(shutil.which(name, path=board.search_path()) for name in ("c++", "g++", "clang++")):
        raise Failure("there is no C++ compiler: `sudo apt install build-essential`")


def _emptied(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def _size(folder):
    files = (os.path.join(top, name) for top, _, names in os.walk(folder) for name in names)
    return sum(os.lstat(path).st_size for path in files)
