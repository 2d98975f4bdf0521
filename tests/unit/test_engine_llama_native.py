"""The native runner seen from the host: which variant a device gets, how it is started, how it would be built."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import make_bundle

from melt._layout import agents_dir
from melt.engines import registry
from melt.engines.base import BuiltRunner
from melt.engines.llama_native import VARIANTS, LlamaNative, variant_for
from melt.errors import EngineError, MeltError
from melt.records import DeviceFacts
from melt.targets import runners

_BUILD = agents_dir() / "runners" / "llama_native" / "build.py"
_A53 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_A55 = f"{_A53} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
_X2 = f"{_A55} i8mm bf16 sve sve2"
_HASWELL = "fpu sse4_2 ssse3 popcnt avx avx2 fma f16c bmi1 bmi2 abm movbe"


def _device(os: str, arch: str, features: str) -> DeviceFacts:
    return replace(make_bundle().start.device, os=os, arch=arch, cpu_features=tuple(features.split()))


@pytest.mark.parametrize(
    ("engine", "device", "target", "variant"),
    [
        ("llama.cpp", _device("android", "aarch64", _A53), "android-arm64", "v8.0"),
        ("llama.cpp", _device("android", "aarch64", _A55), "android-arm64", "v8.2"),
        ("llama.cpp-native", _device("android", "aarch64", _X2), "android-arm64", "i8mm"),
        ("llama.cpp-native", _device("linux", "aarch64", _A55), "linux-arm64", "v8.2"),
        ("llama.cpp-native", _device("linux", "x86_64", _HASWELL), "linux-x86_64", "v3"),
        ("llama.cpp-native", _device("linux", "x86_64", "sse4_2 ssse3 popcnt avx"), "linux-x86_64", "v2"),
    ],
)
def test_a_device_gets_the_fastest_variant_that_it_can_run(engine, device, target, variant):
    built = registry.get(engine).for_device(device).built_runner()
    assert built == BuiltRunner(name="llama_native", target=target, variant=variant)


def test_llama_cpp_stays_the_python_runner_where_there_is_python():
    assert registry.get("llama.cpp").for_device(_device("linux", "aarch64", _A55)).built_runner() is None


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (_device("android", "armv8l", ""), "not for android on armv8l"),
        (_device("macos", "arm64", _X2), "not for macos on arm64"),
        (_device("linux", "riscv64", ""), "not for linux on riscv64"),
        (_device("linux", "x86_64", "sse4_2 ssse3"), "no CPU without popcnt"),
    ],
)
def test_a_device_that_can_run_none_is_refused(device, says):
    with pytest.raises(EngineError, match=says):
        LlamaNative().for_device(device)


@given(st.sampled_from(sorted(VARIANTS)), st.data())
def test_the_chosen_variant_needs_nothing_that_is_missing(arch, data):
    known = sorted(set().union(*(needs for _, needs in VARIANTS[arch])))
    features = data.draw(st.sets(st.sampled_from(known)))
    possible = [variant for variant, needs in VARIANTS[arch] if needs <= features]
    if possible:
        assert variant_for(arch, features) == possible[0]
    else:
        with pytest.raises(EngineError):
            variant_for(arch, features)


def test_the_runner_is_started_with_its_job():
    start = make_bundle().start
    engine = LlamaNative().for_device(_device("android", "aarch64", _A53))
    command = engine.command(start.spec, start.artifact, model_path="/m.gguf", runner_dir="/d", python="python3")
    assert command.argv == ("/d/llama-native", "{dir}/runner.json")
    python = registry.get("llama.cpp")
    assert (
        command.files
        == python.command(start.spec, start.artifact, model_path="/m.gguf", runner_dir="/d", python="python3").files
    )


def test_a_binary_of_the_users_is_taken_as_it_is(tmp_path):
    path = tmp_path / "llama-native-gpu"
    engine = registry.get(f"llama.cpp-native:{path}")
    device = _device("android", "armv8l", "")
    with pytest.raises(EngineError, match="there is no such file"):
        engine.for_device(device)
    path.touch()
    engine = engine.for_device(device)
    assert (engine.built_runner(), engine.runner_files()) == (None, (path,))
    start = make_bundle().start
    command = engine.command(start.spec, start.artifact, model_path="/m", runner_dir="/d", python="python3")
    assert command.argv[0] == "/d/llama-native-gpu"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """The build script as a module."""
    spec = importlib.util.spec_from_file_location("llama_native_build", _BUILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(_BUILD.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(_BUILD.parent))
    return module


def test_host_and_build_agree_on_what_each_variant_needs(build):
    for arch, variants in VARIANTS.items():
        assert {v: set(about["needs"].split()) for v, about in build.VARIANTS[arch].items()} == dict(variants)


def test_the_runner_knows_how_to_look_for_each_feature(build):
    check = (_BUILD.parent / "cpu_check.c").read_text()
    needed = {feature for table in build.VARIANTS.values() for v in table.values() for feature in v["needs"].split()}
    assert {feature for feature in needed if f'"{feature}"' not in check} == set()


def _configured(*words: str, **variables: str) -> dict[str, str]:
    """Return the definitions of cmake's command line, as `--dry-run` prints it."""
    done = subprocess.run(
        [sys.executable, _BUILD, "--cache", "/nowhere", "--dry-run", *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(word[2:].split("=", 1) for word in shlex.split(done.stdout) if word.startswith("-D"))


def _ndk(folder: Path) -> Path:
    toolchain = folder / "build" / "cmake" / "android.toolchain.cmake"
    toolchain.parent.mkdir(parents=True)
    toolchain.touch()
    (folder / "source.properties").write_text("Pkg.Revision = 27.0.1\n")
    return folder


def test_an_ndk_is_given_to_cmake_by_its_toolchain_file(tmp_path):
    pytest.importorskip("cmake")
    pytest.importorskip("ninja")
    ndk = _ndk(tmp_path / "my ndk")
    defines = _configured("--ndk", str(ndk), "--variant", "v8.2", "--backend", "opencl", "--backend", "vulkan")
    assert defines["CMAKE_TOOLCHAIN_FILE"] == str(ndk / "build/cmake/android.toolchain.cmake")
    assert (defines["ANDROID_ABI"], defines["ANDROID_PLATFORM"]) == ("arm64-v8a", "android-28")
    assert (defines["GGML_OPENCL"], defines["GGML_VULKAN"]) == ("ON", "ON")
    assert defines["MELT_CPU_FLAGS_v8.2"] == "-march=armv8.2-a+dotprod+fp16"
    assert defines["MELT_CPU_NEEDS_v8.2"] == "atomics asimdhp asimddp"
    assert "-static" not in defines["CMAKE_EXE_LINKER_FLAGS"]
    assert not {"CMAKE_C_COMPILER", "CMAKE_SYSTEM_NAME"} & set(defines)


def test_zig_compiles_all_but_ggml_cpu_for_the_plainest_cpu():
    for name in ("cmake", "ninja", "ziglang"):
        pytest.importorskip(name)
    defines = _configured()
    assert defines["MELT_VARIANTS"] == "v8.0;v8.2;i8mm"
    assert defines["CMAKE_C_FLAGS"] == defines["CMAKE_CXX_FLAGS"] == "-mcpu=generic -fno-sanitize=all -g0"
    assert len({flags for name, flags in defines.items() if name.startswith("MELT_CPU_FLAGS_")}) == 3


def test_python_environments_share_a_tree(tmp_path):
    """cmake forgets what it was told when the compiler of a tree it configured is another file."""
    for name in ("cmake", "ninja"):
        pytest.importorskip(name)
    installed = Path(pytest.importorskip("ziglang").__file__).parent
    (tmp_path / "ziglang").symlink_to(installed)
    assert _configured(PYTHONPATH=str(tmp_path)) == _configured()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"ndk": "{tmp}"}, "is no Android NDK: it has no build/cmake/android.toolchain.cmake"),
        ({"ndk": "{tmp}", "target": "linux-x86_64"}, "an NDK builds for android-arm64, not for linux-x86_64"),
        ({"backends": ("opencl",)}, "a static binary can load no GPU driver: --backend needs --ndk"),
        ({"backends": ("cuda",)}, "unknown back end 'cuda': one of opencl, vulkan"),
        ({"variants": ("v9",)}, "android-arm64 has no CPU variant 'v9': one of v8.0, v8.2, i8mm"),
        ({"source": "{tmp}"}, "neither the archive llama_cpp_python-0.3.36.tar.gz nor a folder"),
        ({"source": "{tmp}/other.tar.gz"}, "is not llama_cpp_python-0.3.36.tar.gz: its sha256 is e3b0c442"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_sentence(monkeypatch, tmp_path, asked, says):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "other.tar.gz").touch()
    asked = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in asked.items()}
    with pytest.raises(MeltError, match=says) as caught:
        runners.build("llama_native", lambda _: None, **{"target": "android-arm64", **asked})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == (1 if "sha256" in says else 2)


def test_a_missing_tool_is_named_with_the_way_to_get_it():
    # -S leaves out every installed package.
    command = [sys.executable, "-S", _BUILD, "--cache", "/nowhere", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "build.py: the native runner is built with ziglang, which is missing: pip install ziglang==0.17.0\n"
    )


def test_another_content_of_the_source_is_another_binary(build, tmp_path):
    llama = tmp_path / "vendor" / "llama.cpp"
    (llama / "src").mkdir(parents=True)
    (llama / "src" / "llama.cpp").write_text("one")
    find = build.llama_source.find
    first, again = find(str(tmp_path), tmp_path), find(str(llama), tmp_path)
    (llama / "src" / "llama.cpp").write_text("two")
    other = find(str(tmp_path), tmp_path)
    keys = [build.key_of(build.Zig("linux-arm64"), source, "v8.0") for source in (first, again, other)]
    assert keys[0] == keys[1] != keys[2]
    assert (
        build.key_of(build.Zig("android-arm64"), first, "v8.0")
        == keys[0]
        != build.key_of(build.Zig("linux-arm64"), first, "v8.2")
    )
