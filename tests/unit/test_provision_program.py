"""What the program of `melt provision` decides on a device: flags, the Python, and the sentence for what went wrong."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt._layout import agents_dir

PROGRAM = agents_dir() / "provision"
GIB = 1 << 30

ORIN = {
    "system": "Linux",
    "machine": "aarch64",
    "jetson": True,
    "soc": "tegra234",
    "capabilities": [],
    "nvcc": "/usr/local/cuda/bin/nvcc",
    "cuda": [12, 6],
    "cpus": 6,
    "memory_available_bytes": 6 * GIB,
}
RASPBERRY = {**ORIN, "jetson": False, "soc": None, "nvcc": None, "cuda": None}
WORKSTATION = {
    **RASPBERRY,
    "machine": "x86_64",
    "capabilities": ["8.9", "9.0"],
    "nvcc": "/usr/bin/nvcc",
    "cuda": [13, 0],
}
MAC = {**RASPBERRY, "system": "Darwin", "machine": "arm64"}


@pytest.fixture
def program(monkeypatch):
    """Import a module as the device does: from beside provision.py."""
    monkeypatch.syspath_prepend(str(PROGRAM))
    for path in PROGRAM.glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return importlib.import_module


@pytest.mark.parametrize("path", sorted(PROGRAM.glob("*.py")), ids=lambda path: path.name)
def test_the_python_of_jetpack_4_reads_it(path):
    source = path.read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    # Accepted by every parser, but unknown to Python 3.6.
    assert "from __future__" not in source
    assert not any(word in source for word in ("capture_output", "text=True", "dirs_exist_ok", "removeprefix"))


@pytest.mark.parametrize(
    ("facts", "backend", "flags", "jobs"),
    [
        (ORIN, "cuda", ["-DGGML_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=87"], 4),
        ({**ORIN, "soc": "tegra194", "cuda": [11, 4]}, "cuda", ["-DGGML_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=72"], 4),
        ({**ORIN, "soc": "tegra264", "cuda": [13, 0]}, "cuda", ["-DGGML_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=110"], 4),
        ({**ORIN, "soc": None}, "cuda", ["-DGGML_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=native"], 4),
        (WORKSTATION, "cuda", ["-DGGML_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=89;90"], 4),
        (MAC, "metal", ["-DGGML_METAL=on"], 6),
        ({**MAC, "machine": "x86_64"}, "cpu", [], 6),
        (RASPBERRY, "cpu", [], 6),
        ({**RASPBERRY, "memory_available_bytes": GIB // 2}, "cpu", [], 1),
        ({**RASPBERRY, "memory_available_bytes": None}, "cpu", [], 6),
        ({**ORIN, "memory_available_bytes": GIB}, "cuda", ["-DGGML_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=87"], 1),
    ],
)
def test_flags_follow_from_the_board(program, facts, backend, flags, jobs):
    build = program("board").plan(facts)
    assert build.backend == backend
    assert build.cmake_args[2:] == flags
    assert build.jobs == jobs
    assert build.environment == ({"CUDACXX": facts["nvcc"]} if backend == "cuda" else {})
    assert build.note is None


def test_cpu_leaves_every_gpu_out(program):
    plan = program("board").plan
    assert plan(ORIN, gpu=False).cmake_args == plan(RASPBERRY).cmake_args
    assert plan(MAC, gpu=False).cmake_args[2:] == ["-DGGML_METAL=off"]
    # A board whose CUDA is too old can be used all the same.
    assert plan({**ORIN, "cuda": [10, 2]}, gpu=False).backend == "cpu"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({**ORIN, "nvcc": None, "cuda": None}, ("nvcc", "/usr/local/cuda*", "nvidia-jetpack", "--cpu")),
        ({**ORIN, "soc": "tegra210", "cuda": [10, 2]}, ("CUDA 10.2", "11.0", "--cpu")),
        ({**WORKSTATION, "nvcc": None, "cuda": None}, ("nvcc", "CUDA toolkit", "--cpu")),
    ],
)
def test_a_gpu_that_cannot_be_built_for_is_never_left_out_in_silence(program, facts, words):
    board = program("board")
    with pytest.raises(board.Failure) as caught:
        board.plan(facts)
    assert all(word in str(caught.value) for word in words)


def test_a_compiler_without_its_gpu_is_worth_a_note(program):
    build = program("board").plan({**RASPBERRY, "nvcc": "/usr/bin/nvcc", "cuda": [13, 0]})
    assert build.backend == "cpu"
    assert "no NVIDIA GPU" in build.note


class Pythons:
    """A PATH with Pythons that say of themselves what a test wants."""

    def __init__(self, folder: Path, monkeypatch, program) -> None:
        self.folder = folder
        self.environment = program("environment")
        # Another name for the same module's function: environment asks board for the PATH.
        monkeypatch.setattr(self.environment.board, "search_path", lambda: str(folder))

    def add(self, name: str, version: str, *, venv: bool = True) -> None:
        script = self.folder / name
        script.write_text(f"#!/bin/sh\necho {version}\n{'echo venv' if venv else 'exit 1'}\n")
        script.chmod(0o755)


@pytest.fixture
def pythons(tmp_path, monkeypatch, program):
    return Pythons(tmp_path, monkeypatch, program)


def test_the_newest_python_that_can_is_taken(pythons):
    pythons.add("python3", "3.6.9")
    pythons.add("python3.8", "3.8.18")
    pythons.add("python3.10", "3.10.12")
    pythons.add("python3.12", "3.12.1", venv=False)
    pythons.add("python3.15", "3.15.0")
    pythons.add("python3-config", "3.13.0")
    assert pythons.environment.find_python().version == "3.10.12"


def test_a_python_without_venv_is_told_what_to_install(pythons):
    pythons.add("python3", "3.10.12", venv=False)
    pythons.add("python3.6", "3.6.9")
    with pytest.raises(pythons.environment.Failure, match=r"python3\.10 .* `sudo apt install python3\.10-venv`"):
        pythons.environment.find_python()


def test_a_board_with_an_old_python_only_is_told_which_one_it_needs(pythons):
    pythons.add("python3", "3.6.9")
    with pytest.raises(
        pythons.environment.Failure, match=r"Python 3\.8 to 3\.13 is needed.* 3\.6\.9 .*python3\.8-venv"
    ):
        pythons.environment.find_python()


def test_a_python_that_does_not_start_is_none(pythons):
    broken = pythons.folder / "python3"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(pythons.environment.Failure, match="what is here is none"):
        pythons.environment.find_python()


FAILURES = Path(__file__).parents[1] / "data" / "provision"


@pytest.mark.parametrize("path", sorted(FAILURES.glob("*.txt")), ids=lambda path: path.stem)
def test_what_pip_printed_becomes_one_sentence(program, path):
    """The first line of a file is what its sentence must contain; the rest is what was printed."""
    expected, *lines = path.read_text(encoding="utf-8").splitlines()
    failure = program("pips").explain(lines, 1, "/home/lab/.melt")
    assert expected in str(failure)
    assert "\n" not in str(failure)
    assert failure.tail == lines[-30:]


def test_a_package_that_the_index_lacks_is_told_from_an_index_that_does_not_answer(program):
    pips = program("pips")
    kinds = {
        path.stem: type(pips.explain(path.read_text().splitlines()[1:], 1, "/")) for path in FAILURES.glob("*.txt")
    }
    assert kinds.pop("no-match") is pips.NoMatchError
    assert set(kinds.values()) == {program("board").Failure}


def test_a_pip_that_was_killed_ran_out_of_memory(program):
    assert "memory ran out" in str(program("pips").explain(["Collecting numpy"], -9, "/"))


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("  [12/345] /usr/bin/c++ -DGGML_USE_CPU -o x.o", (12, 345)),
        ("[345/345] Linking", (345, 345)),
        ("  [ 37%] Building CUDA object", (37, 100)),
        ("[0/0] nothing", None),
        ("arr[3/4] = 1", None),
        ("", None),
    ],
)
def test_progress_is_read_from_the_build(program, line, progress):
    assert program("pips").progress(line) == progress


@given(st.lists(st.text()))
def test_no_output_of_pip_is_a_defect(lines):
    sys.path.insert(0, str(PROGRAM))
    try:
        pips = importlib.import_module("pips")
    finally:
        sys.path.remove(str(PROGRAM))
    for line in lines:
        pips.progress(line)
    assert str(pips.explain(lines, 1, "/"))


def test_busy_names_the_job_that_is_at_it(program, tmp_path, capsys):
    import fcntl

    work = tmp_path / "provision"
    work.mkdir()
    wish = tmp_path / "wish.json"
    wish.write_text(json.dumps({"root": str(tmp_path), "job": str(tmp_path / "jobs/provision-2")}))
    with (work / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("/jobs/provision-1")
        lock.flush()
        assert program("provision").main(["provision.py", str(wish)]) == 3
    assert json.loads(capsys.readouterr().out) == {"event": "busy", "job": "/jobs/provision-1"}
