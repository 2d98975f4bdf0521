"""Make melt's Python environment on this device: `python3 provision.py WISH.json`.

The wish holds `root` (melt's folder), `job` (the folder of the agent's job that runs this), `llama_cpp` (a pinned
requirement), `others` (requirements with markers), `gpu` and `fresh`. Prints JSON objects, one a line: `step`,
`activity`, `progress`, `note`, and last `done`, `failed` or `busy`, which names the job that is at it already. Exit
code 0 after `done`, 1 after `failed`, 3 after `busy`.

Standard library only, Python 3.6 and later: an old board starts it with what it has, and is then told what it needs.
"""

import errno
import fcntl
import glob
import json
import os
import shutil
import sys

import board
from board import Failure
from environment import Environment, find_python
from llama_wheel import LlamaWheel, need
from pips import NoMatchError

RECORD = "melt-provision.json"
_STEPS = 5
_PACKAGES_BYTES = 600 << 20
_BUSY = 3


class Provision:
    """One attempt: looks first, and does only what is missing."""

    def __init__(self, wish, work, log, say):
        self._wish = wish
        self._root = wish["root"]
        self._work = work
        self._log = log
        self._say = say
        self._variables = _variables(work)
        self._environment = Environment(os.path.join(self._root, "venv"), self._variables, log, say, self._root)
        self._number = 0

    def run(self):
        """Return the record of what is there now, and whether anything had to be done. Raises Failure, OSError."""
        fresh = self._wish["fresh"]
        self._step("removing what is there" if fresh else "looking at what is there")
        build = board.plan(board.look(), self._wish["gpu"])
        wanted = {name: self._wish[name] for name in ("llama_cpp", "others")}
        wanted.update(backend=build.backend, cmake_args=build.cmake_args)
        if fresh:
            for folder in (self._environment.folder, *(os.path.join(self._work, name) for name in ("wheels", "build"))):
                shutil.rmtree(folder, ignore_errors=True)
        else:
            record = self._as_wanted(wanted)
            if record is not None:
                return record, False
        # The log is that of the last attempt that did something.
        self._log.truncate(0)
        if build.note:
            self._say("note", message=build.note)
        self._step("making the virtual environment")
        self._make_environment()
        self._step("installing what comes as wheels")
        missing = self._install_others()
        self._step("installing %s for %s" % (self._wish["llama_cpp"], _title(build)))
        wheel = LlamaWheel(self._wish["llama_cpp"], build, self._work, self._variables, self._say)
        path = wheel.find(self._environment) or wheel.build(self._environment)
        self._environment.install("--force-reinstall", "--no-deps", path)
        self._environment.install(self._wish["llama_cpp"])
        self._step("verifying")
        record = dict(
            self._verified(build, missing), wanted=wanted, missing=missing, backend=build.backend, cuda=build.cuda
        )
        record["built_here"] = wheel.built
        _write(os.path.join(self._environment.folder, RECORD), record)
        wheel.clean_up()
        if missing:
            raise Failure("%s is installed, but %s" % (self._wish["llama_cpp"], "; ".join(missing)))
        return record, True

    def _as_wanted(self, wanted):
        """Return the record of an environment that is as wanted and still works, else None."""
        record = _read(os.path.join(self._environment.folder, RECORD))
        if record is None or record.get("wanted") != wanted or record.get("missing"):
            return None
        found = self._environment.verify()
        return record if found is not None and all(record.get(key) == value for key, value in found.items()) else None

    def _make_environment(self):
        if not self._environment.is_whole():
            need(self._root, _PACKAGES_BYTES, "the environment")
            base = find_python()
            self._say("activity", what="Python %s, %s" % (base.version, base.path))
            self._environment.make(base)
        self._environment.install("pip>=22.3")

    def _install_others(self):
        """Install what can be; return why not of those that the index does not have for this device."""
        try:
            self._environment.install("--prefer-binary", *self._wish["others"])
            return []
        except NoMatchError:
            pass  # The others are to be there all the same.
        missing = []
        for requirement in self._wish["others"]:
            try:
                self._environment.install("--prefer-binary", requirement)
            except NoMatchError as error:
                missing.append(str(error))
        return missing

    def _verified(self, build, missing):
        found = self._environment.verify()
        if found is None:
            raise Failure(
                "llama_cpp is installed but does not load: %s; `melt provision --fresh` makes it anew"
                % self._environment.complaint
            )
        if found["onnxruntime"] is None and not missing:
            raise Failure("onnxruntime is installed but does not load: %s" % found["onnxruntime_complaint"])
        if build.backend != "cpu" and not found["gpu_offload"]:
            raise Failure(
                "llama.cpp was built for %s but sees no GPU: is this user in the groups `video` and `render`?"
                % _title(build)
            )
        return found

    def _step(self, what):
        self._number += 1
        self._say("step", number=self._number, of=_STEPS, what=what)


def main(argv):
    """Do what the wish asks for and return the exit code."""
    if len(argv) != 2:
        print("usage: %s WISH.json" % argv[0], file=sys.stderr)
        return 2
    wish = _read(argv[1])
    if wish is None:
        return _fail(Failure("cannot read the wish %s" % argv[1]))
    work = os.path.join(wish["root"], "provision")
    try:
        os.makedirs(work, exist_ok=True)
        with open(os.path.join(work, "lock"), "a+", encoding="utf-8") as lock:
            holder = _take(lock, wish["job"])
            if holder is not None:
                _say("busy", job=holder)
                return _BUSY
            _forget_jobs(wish["job"])
            with open(os.path.join(work, "log"), "a", encoding="utf-8") as log:
                record, changed = Provision(wish, work, log, _say).run()
    except Failure as failure:
        return _fail(failure, log=os.path.join(work, "log"))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(Failure("the disk is full: make room below %s, then provision again" % wish["root"]))
        return _fail(Failure("%s: %s" % (error.filename or wish["root"], error.strerror or error)))
    _say("done", changed=changed, record=record)
    return 0


def _take(lock, job):
    """Take the lock for a job; return the job that has it already, else None. It ends with this process."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        return lock.read().strip()
    lock.truncate(0)
    lock.write(job)
    lock.flush()
    return None


def _forget_jobs(own):
    """Remove the folders of the attempts before this one; the last one's is kept, for who follows it late."""
    for folder in glob.glob(os.path.join(os.path.dirname(own), "provision-*")):
        if os.path.basename(folder) != os.path.basename(own):
            shutil.rmtree(folder, ignore_errors=True)


def _variables(work):
    """Return the environment of what is started: proxies and pip's configuration are left as they are."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    variables.pop("CMAKE_ARGS", None)
    temporary = os.path.join(work, "tmp")
    os.makedirs(temporary, exist_ok=True)
    variables.update(
        PATH=board.search_path(),
        # A board's /tmp may be a small part of its memory.
        TMPDIR=temporary,
        # Nothing outside of melt's folder is touched, and nothing is left of what only this needs.
        PIP_CACHE_DIR=os.path.join(work, "cache"),
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_NO_INPUT="1",
        PIP_PROGRESS_BAR="off",
        # Without any retry pip does not say that the index did not answer, only that it found nothing.
        PIP_RETRIES="3",
        # With `user = true` in a pip.conf pip would refuse to install into an environment.
        PIP_USER="0",
    )
    if sys.platform != "darwin":
        # Compilers translate their errors, and the sentences for a person are made from those.
        variables["LC_ALL"] = "C.UTF-8"
    return variables


def _title(build):
    return {"cuda": "CUDA %s" % build.cuda, "metal": "Metal", "cpu": "the CPU"}[build.backend]


def _say(event, **fields):
    print(json.dumps(dict(fields, event=event)), flush=True)


def _fail(failure, log=None):
    _say("failed", message=str(failure), tail=getattr(failure, "tail", []), log=log)
    return 1


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _write(path, document):
    partial = path + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
    os.rename(partial, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
