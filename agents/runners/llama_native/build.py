"""Build the native runner: llama.cpp for devices without Python, one binary per CPU variant.

    python build.py --cache DIR [--target T] [--variant V ...] [--source FILE|FOLDER] [--ndk DIR [--backend B ...]]

Prints a line per binary, its variant and its path. With the compiler of the package `ziglang` they are static (musl)
and run on any Linux of their architecture: android-arm64 and linux-arm64 are the same file. Such a binary can load no
driver: for GPU back ends give an Android NDK. Standard library, ziglang, cmake and ninja; nothing of melt.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import llama_source
from llama_source import BuildError, UsageError

HERE = Path(__file__).resolve().parent
ZIG_VERSION = "0.17.0"
TARGETS = ("android-arm64", "linux-arm64", "linux-x86_64")
BACKENDS = {"opencl": "GGML_OPENCL", "vulkan": "GGML_VULKAN"}

# Per architecture: its variants, the plainest first. `needs` are CPU features as /proc/cpuinfo names them; melt's
# melt/engines/llama_native.py chooses by them, cpu_check.c refuses by them. `zig` is what ggml's CPU code is compiled
# for, `clang` the same for the NDK's compiler.
VARIANTS = {
    "arm64": {
        "v8.0": {"needs": "", "zig": "generic", "clang": "-march=armv8-a"},
        "v8.2": {
            "needs": "atomics asimdhp asimddp",
            "zig": "generic+v8_2a+dotprod+fullfp16",
            "clang": "-march=armv8.2-a+dotprod+fp16",
        },
        "i8mm": {
            "needs": "atomics asimdhp asimddp i8mm",
            "zig": "generic+v8_2a+dotprod+fullfp16+i8mm",
            "clang": "-march=armv8.2-a+dotprod+fp16+i8mm",
        },
    },
    "x86_64": {
        "v2": {"needs": "ssse3 sse4_2 popcnt", "zig": "x86_64_v2"},
        "v3": {"needs": "ssse3 sse4_2 popcnt avx2 fma f16c bmi1 bmi2 abm movbe", "zig": "x86_64_v3"},
    },
}

# What of llama.cpp is built, and how: only the library, and no code that depends on the machine that builds it.
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_CCACHE": "OFF",
    "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",
    **{f"GGML_{name}": "OFF" for name in ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C")},
    **{f"LLAMA_BUILD_{name}": "OFF" for name in ("APP", "COMMON", "EXAMPLES", "SERVER", "TESTS", "TOOLS")},
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_SUBPROCESS": "OFF",
    # Otherwise cmake stamps the commit of whatever repository lies around the build.
    "LLAMA_BUILD_COMMIT": "unknown",
    "LLAMA_BUILD_NUMBER": "0",
}
BASELINE = {"arm64": ("aarch64", "generic"), "x86_64": ("x86_64", "x86_64")}
SOURCES = ("*.c", "*.cpp", "*.hpp", "CMakeLists.txt")


class Zig:
    """The compiler for static Linux binaries: the Python package ziglang."""

    # zig traps on undefined behaviour unless told not to, and writes 50 MB of debug information.
    FLAGS = "-fno-sanitize=all -g0"
    # cmake's ar and ranlib may have no arguments, and a compiler that has moved makes cmake forget all it was told: the
    # tree's own scripts call whichever zig the Python environment at hand has.
    TOOLS = ("cc", "c++", "ar", "ranlib")
    key = f"zig {ZIG_VERSION} {FLAGS} by {TOOLS}"

    def __init__(self, target):
        self.arch = target.split("-")[1]

    def flags(self, variant):
        """Return the flags for ggml's CPU code. zig takes -mcpu where others take -march."""
        return f"-mcpu={VARIANTS[self.arch][variant]['zig']}"

    def prepare(self, tree):
        """Write the scripts that cmake calls. Raises BuildError where zig is not installed."""
        zig = self._zig()
        for name in self.TOOLS:
            script = tree / f"zig-{name}"
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(zig)} {name} "$@"\n')
            script.chmod(0o755)

    def options(self, tree):
        """Return cmake's options for this compiler. Raises BuildError where it is not installed."""
        self._zig()
        processor, cpu = BASELINE[self.arch]
        flags = f"-mcpu={cpu} {self.FLAGS}"
        return {
            "CMAKE_SYSTEM_NAME": "Linux",
            "CMAKE_SYSTEM_PROCESSOR": processor,
            "CMAKE_ASM_COMPILER": str(tree / "zig-cc"),
            "CMAKE_C_COMPILER": str(tree / "zig-cc"),
            "CMAKE_CXX_COMPILER": str(tree / "zig-c++"),
            "CMAKE_C_COMPILER_TARGET": f"{processor}-linux-musl",
            "CMAKE_CXX_COMPILER_TARGET": f"{processor}-linux-musl",
            "CMAKE_AR": str(tree / "zig-ar"),
            "CMAKE_RANLIB": str(tree / "zig-ranlib"),
            "CMAKE_C_FLAGS": flags,
            "CMAKE_CXX_FLAGS": flags,
            "CMAKE_EXE_LINKER_FLAGS": "-static -s",
        }

    def _zig(self):
        spec = importlib.util.find_spec("ziglang")
        if spec is None:
            raise BuildError(_missing("ziglang"))
        found = importlib.metadata.version("ziglang")
        if found != ZIG_VERSION:
            raise BuildError(f"ziglang {found} is installed: pip install ziglang=={ZIG_VERSION}")
        return str(Path(spec.submodule_search_locations[0]) / "zig")


class Ndk:
    """The compiler of an Android NDK: binaries for Android alone, which may use its GPU drivers."""

    def __init__(self, folder, target, backends):
        self.arch = target.split("-")[1]
        self._toolchain = folder / "build" / "cmake" / "android.toolchain.cmake"
        self._backends = backends
        if target != "android-arm64":
            raise UsageError(f"an NDK builds for android-arm64, not for {target}")
        if not self._toolchain.is_file():
            raise UsageError(f"{folder} is no Android NDK: it has no build/cmake/android.toolchain.cmake")
        properties = folder / "source.properties"
        # A tree keeps to its compilers' paths: the same NDK elsewhere has another.
        self.key = f"ndk {folder} {properties.read_text() if properties.is_file() else ''} {sorted(backends)}"

    def flags(self, variant):
        """Return the flags for ggml's CPU code."""
        return VARIANTS[self.arch][variant]["clang"]

    def prepare(self, _tree):
        """Do nothing: the NDK's toolchain file names all tools."""

    def options(self, _tree):
        """Return cmake's options for this compiler."""
        return {
            "CMAKE_TOOLCHAIN_FILE": str(self._toolchain),
            "ANDROID_ABI": "arm64-v8a",
            "ANDROID_PLATFORM": "android-28",
            "ANDROID_STL": "c++_static",
            "CMAKE_EXE_LINKER_FLAGS": "-s",
            **{BACKENDS[name]: "ON" for name in self._backends},
        }


def own_sources():
    """Return the files of melt that make the runner."""
    return sorted(path for pattern in SOURCES for path in HERE.glob(pattern))


def key_of(toolchain, source, variant):
    """Return the name of a binary's folder: it changes with anything that could change the binary."""
    facts = [toolchain.key, source.key, toolchain.arch, VARIANTS[toolchain.arch][variant], variant, OPTIONS, BASELINE]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for path in own_sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def configure_command(toolchain, source, folder, tree):
    """Return the command that prepares `tree` for all variants; what is there already is not compiled anew."""
    variants = VARIANTS[toolchain.arch]
    defines = {
        **OPTIONS,
        **toolchain.options(tree),
        "CMAKE_MAKE_PROGRAM": tool("ninja"),
        "MELT_LLAMA_SOURCE": str(folder),
        "MELT_ENGINE_VERSION": source.name,
        "MELT_VARIANTS": ";".join(variants),
        **{f"MELT_CPU_FLAGS_{variant}": toolchain.flags(variant) for variant in variants},
        **{f"MELT_CPU_NEEDS_{variant}": about["needs"] for variant, about in variants.items()},
    }
    options = [f"-D{name}={value}" for name, value in defines.items()]
    return [tool("cmake"), "-G", "Ninja", "-S", str(tree / "melt"), "-B", str(tree), *options]


def build(cache, toolchain, source, variants, say):
    """Return the binary of each variant, built first where it is missing. Raises BuildError."""
    wanted = {variant: cache / key_of(toolchain, source, variant) / "llama-native" for variant in variants}
    if all(binary.is_file() for binary in wanted.values()):
        return wanted
    with _locked(cache / "source"):
        folder = source.folder(say)
    # One tree for all variants, and for all versions of melt's own sources: llama.cpp is compiled once, ggml's CPU code
    # once for each variant. Another llama.cpp or flag, another tree.
    facts = json.dumps([toolchain.key, toolchain.arch, OPTIONS, BASELINE, VARIANTS, str(folder), source.key])
    tree = cache / "trees" / f"{toolchain.arch}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
    with _locked(tree):
        missing = [variant for variant, binary in wanted.items() if not binary.is_file()]
        if missing:  # somebody may have built them while this process waited
            _prepare(toolchain, source, folder, tree, say)
        for variant in missing:
            _build_one(toolchain.arch, tree, variant, wanted[variant], say)
    return wanted


@contextlib.contextmanager
def _locked(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare(toolchain, source, folder, tree, say):
    """Bring melt's own sources into the tree, and configure it; compile llama.cpp where that is not done."""
    copies = tree / "melt"
    copies.mkdir(exist_ok=True)
    for path in own_sources():
        copy = copies / path.name
        # What did not change keeps its time, and is not compiled anew.
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)
    toolchain.prepare(tree)
    if not (tree / "llama" / "src" / "libllama.a").is_file():
        say(f"compiling llama.cpp for {toolchain.arch}: about 4 CPU minutes, once for all CPU variants, kept in {tree}")
    _do(configure_command(toolchain, source, folder, tree), tree)
    _do([tool("cmake"), "--build", str(tree), "--target", "llama", "melt"], tree)


def _build_one(arch, tree, variant, binary, say):
    compiled = (tree / f"libggml-cpu-{variant}.a").is_file()
    cost = "linked with what was compiled before" if compiled else "about 1 CPU minute"
    say(f"building the native runner for {arch}, CPU variant {variant}: {cost}, kept in {binary.parent}")
    _do([tool("cmake"), "--build", str(tree), "--target", f"llama-native-{variant}"], tree)
    binary.parent.mkdir(parents=True, exist_ok=True)
    partial = binary.with_name("llama-native.partial")
    shutil.copy2(tree / f"llama-native-{variant}", partial)
    partial.replace(binary)


def tool(name):
    """Return the path of cmake or ninja, from its Python package or else of the system. Raises BuildError."""
    with contextlib.suppress(ImportError, AttributeError):
        package = __import__(name)
        return str(Path(getattr(package, "CMAKE_BIN_DIR" if name == "cmake" else "BIN_DIR")) / name)
    found = shutil.which(name)
    if found is None:
        raise BuildError(_missing(name))
    return found


def _missing(package):
    version = f"=={ZIG_VERSION}" if package == "ziglang" else ""
    return f"the native runner is built with {package}, which is missing: pip install {package}{version}"


def _do(command, tree):
    log = tree / "build.log"
    with log.open("ab") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = log.read_text(errors="replace").splitlines()
        tail = "\n".join(lines[-20:])
        raise BuildError(f"`{command[0]} {command[1]}` failed with exit code {done.returncode}; {log} ends so:\n{tail}")


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Build the native runner.")
    parser.add_argument("--cache", type=Path, required=True, help="folder for sources, build trees and binaries")
    parser.add_argument("--target", choices=TARGETS, default="android-arm64")
    parser.add_argument("--variant", action="append", help="only this CPU variant (may be repeated)")
    parser.add_argument("--source", help="archive or folder to build instead of fetching the package")
    parser.add_argument("--ndk", type=Path, help="build with this Android NDK")
    parser.add_argument("--backend", action="append", default=[], help="GPU back end, with --ndk: opencl, vulkan")
    parser.add_argument("--dry-run", action="store_true", help="print cmake's command line and build nothing")
    arguments = parser.parse_args()
    try:
        known = VARIANTS[arguments.target.split("-")[1]]
        for variant in arguments.variant or ():
            if variant not in known:
                raise UsageError(f"{arguments.target} has no CPU variant {variant!r}: one of {', '.join(known)}")
        for backend in arguments.backend:
            if backend not in BACKENDS:
                raise UsageError(f"unknown back end {backend!r}: one of {', '.join(BACKENDS)}")
        if arguments.backend and not arguments.ndk:
            raise UsageError("a static binary can load no GPU driver: --backend needs --ndk")
        cache = arguments.cache.absolute()
        source = llama_source.find(arguments.source, cache)
        ndk = arguments.ndk
        toolchain = Ndk(ndk.absolute(), arguments.target, arguments.backend) if ndk else Zig(arguments.target)
        variants = arguments.variant or list(known)
        if arguments.dry_run:
            print(shlex.join(configure_command(toolchain, source, Path("SOURCE"), Path("TREE"))))
            return
        os.nice(10)
        built = build(cache, toolchain, source, variants, lambda text: print(text, file=sys.stderr, flush=True))
        for variant, binary in built.items():
            print(variant, binary)
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)


if __name__ == "__main__":
    main()
