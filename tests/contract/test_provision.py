"""`melt provision` over a real sshd, with the agent that ships, real virtual environments and a real pip.

Only llama.cpp's source and onnxruntime are played, except where the wheel is the real one: `test_the_real_engine`; and
an empty environment is the copy of one, which `Board.forget_copies` ends.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from virtual.engine_source import make_source
from virtual.phone.requirements import Unavailable
from virtual.phone.testing import eventually
from virtual.ssh_testing import serving
from virtual.sshd import Sshd
from virtual.wheels import make, repack

from melt._layout import agents_dir
from melt.errors import DeviceError, MeltError, TransportError
from melt.session.connect import connect, reach
from melt.session.provision import ProvisionError, Result, check, provision
from melt.targets.jobfile import Job
from melt.targets.provision import Provisioned, Said

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ONNXRUNTIME = '__version__ = "1.23.2"\ndef get_available_providers():\n    return ["CPUExecutionProvider"]\n'
NVCC = "#!/bin/sh\necho 'Cuda compilation tools, release 12.6, V12.6.68'\n"
NVIDIA_SMI = "#!/bin/sh\necho 8.7\n"
COPYING_PYTHON = """\
#!/bin/sh
[ "$1 $2" = "-m venv" ] && exec cp -a {empty} "$3"
exec {python} "$@"
"""
MINUTES_S = 240.0
"""Making an environment takes a real pip ten seconds, and much longer on a machine that does ten other things."""
ENGINES = Provisioned("", "0.3.36", "1.23.2", "cpu")


class Board:
    """A machine behind SSH whose home and PATH are the test's own."""

    def __init__(self, server: Sshd, folder: Path) -> None:
        self.server = server
        self.selector = f"ssh:{server.alias}"
        self.home, self.bin, self.packages = folder / "home", folder / "bin", folder / "packages"
        self.hold, self.builds = folder / "hold", folder / "builds"
        self.root = self.home / ".melt"
        self.said: list[Said] = []
        self.notes: list[str] = []
        self.stop = threading.Event()
        make_source(self.packages, self.hold, self.builds)
        make("onnxruntime", "1.23.2", {"onnxruntime/__init__.py": ONNXRUNTIME}, self.packages)
        self.configure_pip("no-index = true", f"find-links = {self.packages}")

    def configure_pip(self, *lines: str) -> None:
        config = self.home / ".config" / "pip" / "pip.conf"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text("\n".join(("[global]", *lines, "")))

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def forget_copies(self) -> None:
        """Let environments be made as they are elsewhere."""
        (self.bin / "python3").unlink()

    def provision(self, **options: bool) -> Result:
        self.said.clear()
        return provision(
            self.selector, see=self.said.append, say=self.notes.append, stop=self.stop, lost_after_s=30.0, **options
        )

    def begin(self, **options: bool) -> Attempt:
        """Begin in a thread and wait until the build stands still."""
        self.hold.touch()
        attempt = Attempt(self, options)
        eventually(self.is_building, MINUTES_S)
        return attempt

    def is_building(self) -> bool:
        return Said("progress", {"done": 5, "total": 10}) in self.said

    def release(self) -> None:
        self.hold.unlink()

    def built(self) -> list[str]:
        return self.builds.read_text().splitlines() if self.builds.exists() else []

    @property
    def record(self) -> dict[str, object]:
        document: dict[str, object] = json.loads((self.root / "venv" / "melt-provision.json").read_text())
        return document

    def jobs(self) -> list[Path]:
        return sorted((self.root / "jobs").glob("provision-*"))


class Attempt:
    """`melt provision` under way in a thread."""

    def __init__(self, board: Board, options: dict[str, bool]) -> None:
        self._result: Result | MeltError | None = None
        self._thread = threading.Thread(target=self._run, args=(board, options), daemon=True)
        self._thread.start()

    def _run(self, board: Board, options: dict[str, bool]) -> None:
        try:
            self._result = board.provision(**options)
        except MeltError as error:
            self._result = error

    def end(self) -> Result:
        self._thread.join(MINUTES_S)
        assert self._result is not None
        if isinstance(self._result, MeltError):
            raise self._result
        return self._result


@pytest.fixture(scope="module")
def python() -> Any:
    """The Python that `melt provision` takes on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(agents_dir() / "provision"))
        patch.setenv("PATH", f"{sys.base_prefix}/bin:/usr/bin:/bin")
        return importlib.import_module("environment").find_python()


@pytest.fixture(scope="module")
def empty_environment(python: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What takes a real Python longer than all else that most tests do here, made once."""
    made = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([python.path, "-m", "venv", made], check=True)
    return made


@pytest.fixture
def board(tmp_path: Path, python: Any, empty_environment: Path) -> Iterator[Board]:
    (tmp_path / "bin").mkdir()
    path = os.pathsep.join((str(tmp_path / "bin"), f"{sys.base_prefix}/bin", "/usr/bin", "/bin"))
    variables = f"SetEnv HOME={tmp_path / 'home'} PATH={path}"
    with serving(home=tmp_path / "home", options=(variables,)) as server:
        board = Board(server, tmp_path)
        # What this machine has of a GPU is none of the test's business.
        board.program("nvidia-smi", "#!/bin/sh\nexit 9\n")
        board.program("python3", COPYING_PYTHON.format(empty=empty_environment, python=python.path))
        yield board
        board.hold.unlink(missing_ok=True)
        device = reach(board.selector)
        for job in board.jobs():
            device.agent.stop(str(job))
        device.transport.close()


def without_python(found: Provisioned | None) -> Provisioned | None:
    return found and Provisioned("", found.llama_cpp_version, found.onnxruntime_version, found.backend)


def test_from_nothing_to_an_environment_and_then_nothing_to_do(board: Board) -> None:
    board.forget_copies()
    assert check(board.selector) is None
    assert not board.root.exists(), "looking leaves nothing behind"
    made = board.provision()
    assert made.changed
    assert without_python(made.found) == ENGINES
    assert [said.data["number"] for said in board.said if said.event == "step"] == [1, 2, 3, 4, 5]
    assert [said.data["done"] for said in board.said if said.event == "progress"] == list(range(1, 11))
    (built,) = board.built()
    assert "'CUDACXX': None" in built
    assert str(board.root) in built, "an attempt that is broken off is gone on with where it compiled"
    left = {path.name for path in (board.root / "provision").iterdir()}
    assert left == {"lock", "log", "wheels"}, "what only building needs is removed"
    again = board.provision()
    assert (again.changed, again.found) == (False, made.found)
    assert [said.event for said in board.said] == ["step", "done"]
    assert len(board.built()) == 1
    assert len(board.jobs()) == 1, "the folders of earlier attempts are removed"
    assert check(board.selector) == made.found


def test_an_environment_that_broke_is_made_anew_without_building_again(board: Board) -> None:
    board.provision()
    (board.root / "venv" / "bin" / "python").unlink()
    assert check(board.selector) is None
    assert board.provision().changed
    assert len(board.built()) == 1, "the wheel was kept"


def test_an_engine_that_broke_is_installed_again_and_fresh_builds_it_again(board: Board) -> None:
    board.provision()
    next((board.root / "venv").glob("lib/*/site-packages/llama_cpp/__init__.py")).write_text("raise ImportError\n")
    assert board.provision().changed
    assert without_python(check(board.selector)) == ENGINES
    board.provision(fresh=True)
    assert len(board.built()) == 2


def test_a_board_with_cuda_is_built_for_and_cpu_leaves_it_out(board: Board) -> None:
    board.program("nvcc", NVCC)
    board.program("nvidia-smi", NVIDIA_SMI)
    # A wheel that pip would prefer was built for something else.
    make("llama_cpp_python", "0.3.36", {"llama_cpp/__init__.py": "raise ImportError"}, board.packages)
    assert board.provision().found.backend == "cuda"
    (built,) = board.built()
    assert "-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=87" in built
    assert f"'CUDACXX': '{board.bin}/nvcc'" in built
    assert board.record["cuda"] == "12.6"
    (board.packages / "llama_cpp_python-0.3.36-py3-none-any.whl").unlink()
    assert board.provision(gpu=False).found.backend == "cpu"
    assert board.record["gpu_offload"] is False
    assert len(board.built()) == 2
    assert board.provision().found.backend == "cuda"
    assert len(board.built()) == 2, "the wheel for CUDA was kept"


def test_a_gpu_that_is_not_seen_in_the_end_is_no_success(board: Board) -> None:
    board.program("nvcc", NVCC)
    board.program("nvidia-smi", NVIDIA_SMI)
    source = board.packages / "llama_cpp_python-0.3.36.tar.gz"
    make_source(board.packages, board.hold, board.builds)
    assert source.exists()
    board.provision()
    module = next((board.root / "venv").glob("lib/*/site-packages/llama_cpp/__init__.py"))
    module.write_text(module.read_text() + "def llama_supports_gpu_offload():\n    return False\n")
    wheel = next((board.root / "provision" / "wheels").glob("*/*.whl"))
    wheel.unlink()
    make("llama_cpp_python", "0.3.36", {"llama_cpp/__init__.py": module.read_text()}, wheel.parent)
    with pytest.raises(ProvisionError, match=r"built for CUDA 12\.6 but sees no GPU.*`video`"):
        board.provision()


def test_the_build_goes_on_while_the_link_is_gone(board: Board) -> None:
    attempt = board.begin()
    board.server.drop_links()
    board.release()
    assert attempt.end().changed
    assert len(board.built()) == 1


def test_a_second_melt_follows_the_first_and_nothing_is_measured_meanwhile(board: Board) -> None:
    first = board.begin()
    with pytest.raises(DeviceError, match=f"it is being provisioned: `melt provision {board.server.alias}` follows"):
        connect(board.selector)
    second = Attempt(board, {})
    eventually(lambda: any("already" in note for note in board.notes), MINUTES_S)
    board.release()
    assert first.end().changed
    assert not second.end().changed
    assert len(board.built()) == 1


def test_a_melt_that_was_killed_leaves_it_going_on(board: Board) -> None:
    board.hold.touch()
    command = (sys.executable, "-m", "melt", "provision", board.server.alias)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as melt:
        assert melt.stderr is not None
        for line in melt.stderr:
            if "5 of 10 built" in line:
                break
        melt.send_signal(signal.SIGKILL)
    threading.Timer(1.0, board.release).start()
    board.provision()
    assert any("already" in note for note in board.notes)
    assert len(board.built()) == 1


def test_who_stops_it_stops_the_build_and_the_next_one_goes_on(board: Board) -> None:
    attempt = board.begin()
    board.stop.set()
    with pytest.raises(ProvisionError, match="stopped; `melt provision` goes on"):
        attempt.end()
    assert not board.built()
    board.stop.clear()
    board.release()
    assert board.provision().changed


def test_a_program_that_is_killed_on_the_board_is_gone_on_with(board: Board) -> None:
    attempt = board.begin()
    device = reach(board.selector)
    status = device.agent.status(str(board.jobs()[0]))
    device.transport.close()
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    with pytest.raises(ProvisionError, match="ended from outside"):
        attempt.end()
    board.release()
    assert board.provision().changed


def test_nothing_is_built_beside_a_run(board: Board) -> None:
    device = reach(board.selector)
    job = board.root / "jobs" / "r1"
    job.mkdir(parents=True)
    (job / "job").write_bytes(Job(run_id="r1", runner=("sleep", "300")).render())
    device.agent.start(str(job))
    try:
        with pytest.raises(DeviceError, match="a run goes on there"):
            board.provision()
    finally:
        device.agent.stop(str(job))
        device.transport.close()


def test_an_index_that_does_not_answer_is_one_sentence(board: Board) -> None:
    board.configure_pip("index-url = http://127.0.0.1:9/simple", "retries = 0")
    with pytest.raises(ProvisionError, match="package index cannot be reached") as caught:
        board.provision()
    assert caught.value.tail
    assert Path(str(caught.value.log)).exists()


def test_a_package_that_is_not_to_be_had_leaves_the_others_usable(board: Board) -> None:
    (board.packages / "onnxruntime-1.23.2-py3-none-any.whl").unlink()
    with pytest.raises(
        ProvisionError, match=r"llama-cpp-python==0\.3\.36 is installed, but .* no onnxruntime==1\.23\.2"
    ):
        board.provision()
    found = check(board.selector)
    assert found is not None
    assert found.lacking == ("onnxruntime==1.23.2",)
    assert found.backend == "cpu"


def test_a_small_disk_is_told_what_is_needed(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    home = tmp_path / "home"
    home.mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)
    small = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m none "$0" && exec "$@"', str(home))
    with (
        serving(home=home, enter=small) as server,
        pytest.raises(ProvisionError, match=r"needs \d+ MB .* \d+ MB is free"),
    ):
        provision(f"ssh:{server.alias}", stop=threading.Event())


def test_the_real_engine(board: Board, python: Any) -> None:
    board.forget_copies()
    if not python.version.startswith(f"{sys.version_info.major}.{sys.version_info.minor}."):
        pytest.skip(f"the wheels here are not for Python {python.version}, which is taken")
    (board.packages / "llama_cpp_python-0.3.36.tar.gz").unlink()
    try:
        for name in ("llama-cpp-python", "numpy", "jinja2", "markupsafe", "diskcache", "typing-extensions"):
            repack(name, board.packages)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert without_python(board.provision().found) == ENGINES
    assert board.record["built_here"] is False
    assert not board.provision().changed


def test_a_host_that_is_not_there_does_not_keep_another_from_its_table(board: Board) -> None:
    command = (sys.executable, "-m", "melt", "provision", "-o", "json", board.server.alias, "nowhere.invalid")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    first, second = json.loads(done.stdout)
    assert (first["state"], first["lacking"], first["error"]) == ("provisioned", [], None)
    assert second["state"] == "failed"
    assert "nowhere.invalid" in second["error"]
    assert f"ssh:{board.server.alias}: [5/5] verifying" in done.stderr
    checked = subprocess.run((*command[:4], "--check", board.server.alias), capture_output=True, text=True, check=False)
    assert (checked.returncode, "as wanted" in checked.stdout) == (0, True)


def test_a_board_that_stays_away_is_said_to_go_on(board: Board) -> None:
    attempt = board.begin()
    board.server.stop()
    with pytest.raises(TransportError, match="what was begun goes on there, and `melt provision` follows it"):
        attempt.end()
    board.server.start()
    board.release()
    assert board.provision().found
    assert len(board.built()) == 1
