"""melt as its users get it: a wheel, built, installed into a clean environment, far from any checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_QUIET_PIP = ("--quiet", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("needs the source tree")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *_QUIET_PIP, "--no-deps", "--wheel-dir", folder, ROOT], check=True
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_what_runs_on_devices(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "melt/_agents/runners/llama_cpp.py" in names
    for source in ("build.py", "llama_source.py", "CMakeLists.txt", "main.cpp", "cpu_check.c"):
        assert f"melt/_agents/runners/llama_native/{source}" in names
    assert "melt/_agents/bin/manifest.json" in names
    for target in ("x86_64-linux-musl", "aarch64-linux-musl", "aarch64-macos"):
        assert f"melt/_agents/bin/melt-agent-{target}" in names
    assert "melt/models/data/tiny-pydoc-f16.gguf" in names
    assert not [name for name in names if not name.startswith("melt")], "nothing lands beside the package"


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    subprocess.run([made / "bin/python", "-m", "pip", "install", *_QUIET_PIP, f"{wheel}[llama]", "pytest"], check=True)
    return made


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Nothing that leads to a checkout, and folders of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MELT_"))}
    return kept | {f"XDG_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("STATE", "DATA", "CACHE")}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_installed_wheel_runs_a_benchmark(venv: Path, env: dict[str, str], tmp_path: Path) -> None:
    def melt(*words: str) -> str:
        done = subprocess.run([venv / "bin/melt", *words], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    melt("run", "--model", "tiny-pydoc", "--quant", "q8_0,q4_0", "-p", "16", "-n", "8", "-r", "1")
    runs = json.loads(melt("runs", "-o", "json"))
    assert {run["outcome"] for run in runs} == {"ok"}
    assert Path(melt("store", "path").strip()).is_relative_to(tmp_path / "data")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_wheel_brings_the_suites_for_plug_ins(venv: Path, env: dict[str, str], tmp_path: Path) -> None:
    """Nothing of melt's own tests is needed, nor anything that it does not install but pytest."""
    example = shutil.copytree(ROOT / "examples" / "command-engine", tmp_path / "example")
    subprocess.run([venv / "bin/python", "-m", "pip", "install", *_QUIET_PIP, "--no-deps", example], check=True)
    words = ("-p", "no:cacheprovider", "-q", "-k", "TestEngine or TestRun", "--melt-transport", "local:")
    done = subprocess.run(
        [venv / "bin/python", "-m", "pytest", "--pyargs", "melt.testing", *words, "--melt-engine", "command"],
        cwd=example,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "melt: --melt-transport: local:" in done.stdout
    assert f"melt: --melt-engine: command:{example / 'weights.yaml'}" in done.stdout
    assert "melt: --melt-meter: none asked for" in done.stdout
