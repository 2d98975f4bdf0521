"""What this device builds llama.cpp for: its GPU, its CUDA, its memory, and the flags that follow from them.

Standard library only, Python 3.6 and later: the Python that starts here may be older than the one it installs for.
"""

import glob
import os
import platform
import re
import shutil
import subprocess

CAPABILITIES = {"tegra210": "53", "tegra186": "62", "tegra194": "72", "tegra234": "87", "tegra264": "110"}
"""The SoC of a Jetson -> the compute capability of its GPU: https://developer.nvidia.com/cuda-gpus."""

OLDEST_CUDA = (11, 0)
"""llama.cpp is C++17, which nvcc compiles from CUDA 11.0 on."""

FOLDERS = ("/usr/local/bin", "/opt/homebrew/bin", "/usr/bin", "/bin", "~/.local/bin")
"""Looked through behind the PATH, which for a shell that is no login shell may be short."""

# What melt never calls (images, downloads) is left out, which halves the build.
_ALWAYS = ("-DLLAVA_BUILD=OFF", "-DLLAMA_OPENSSL=OFF")
_JOB_BYTES = {"cuda": 1536 << 20, "metal": 768 << 20, "cpu": 768 << 20}
"""What one compiler takes at its worst; nvcc on the attention kernels takes most."""


class Failure(Exception):
    """What keeps this device from being provisioned: one sentence that says what to do about it."""


class Build:
    """How llama.cpp is to be built here. `backend` is `cuda`, `metal` or `cpu`; `cuda` its release as text, or None."""

    def __init__(self, backend, cmake_args, jobs, cuda=None, environment=None, note=None):
        self.backend = backend
        self.cmake_args = list(cmake_args)
        self.jobs = jobs
        self.cuda = cuda
        self.environment = dict(environment or {})
        self.note = note


def search_path():
    """Return the PATH with the folders that a non-login shell may lack."""
    folders = os.environ.get("PATH", "").split(os.pathsep) + [os.path.expanduser(folder) for folder in FOLDERS]
    return os.pathsep.join(dict.fromkeys(folder for folder in folders if folder))


def look():
    """Return what the flags depend on: a dict that `plan` takes, without any decision in it."""
    compatible = _text("/proc/device-tree/compatible").replace("\0", " ")
    soc = re.search(r"nvidia,(tegra\d+)", compatible)
    nvcc, cuda = _find_nvcc()
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "jetson": bool(soc) or os.path.exists("/etc/nv_tegra_release"),
        "soc": soc.group(1) if soc else None,
        "capabilities": _capabilities(),
        "nvcc": nvcc,
        "cuda": cuda,
        "cpus": _cpus(),
        "memory_available_bytes": _memory_available(),
    }


def plan(facts, gpu=True):
    """Decide how to build from what `look` found; `gpu` False leaves the GPU out. Raises Failure."""
    note = None
    if facts["system"] == "Darwin" and facts["machine"] == "arm64":
        metal = "on" if gpu else "off"
        return _build("metal" if gpu else "cpu", ["-DGGML_METAL=" + metal], facts)
    if gpu and (facts["jetson"] or facts["capabilities"]):
        return _with_cuda(facts)
    if gpu and facts["nvcc"]:
        note = "%s is here but no NVIDIA GPU: llama.cpp is built for the CPU" % facts["nvcc"]
    return _build("cpu", [], facts, note=note)


def _with_cuda(facts):
    whose = "this Jetson" if facts["jetson"] else "this machine's GPU"
    if facts["nvcc"] is None:
        packages = "nvidia-jetpack" if facts["jetson"] else "the CUDA toolkit"
        raise Failure(
            "no CUDA compiler for %s: nvcc is neither on the PATH nor below /usr/local/cuda*: install %s, "
            "or build for the CPU alone with --cpu" % (whose, packages)
        )
    release = ".".join(str(number) for number in facts["cuda"])
    if tuple(facts["cuda"]) < OLDEST_CUDA:
        oldest = ".".join(str(number) for number in OLDEST_CUDA)
        raise Failure(
            "CUDA %s is too old for this llama.cpp, which needs %s or later: build for the CPU alone with --cpu"
            % (release, oldest)
        )
    known = CAPABILITIES.get(facts["soc"])
    architectures = [known] if known else sorted({one.replace(".", "") for one in facts["capabilities"]})
    chosen = ";".join(architectures) or "native"
    flags = ["-DGGML_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=" + chosen]
    return _build("cuda", flags, facts, cuda=release, environment={"CUDACXX": facts["nvcc"]})


def _build(backend, flags, facts, **more):
    memory = facts["memory_available_bytes"]
    fit = facts["cpus"] if memory is None else memory // _JOB_BYTES[backend]
    return Build(backend, list(_ALWAYS) + flags, max(1, min(facts["cpus"], fit)), **more)


def _find_nvcc():
    """Return the path and the release (major, minor) of the CUDA compiler, None and None where there is none."""
    home = os.environ.get("CUDA_HOME")
    homes = [home] if home else []
    homes += ["/usr/local/cuda", *sorted(glob.glob("/usr/local/cuda-*"), key=_numbers, reverse=True)]
    found = [shutil.which("nvcc", path=search_path())] + [os.path.join(folder, "bin", "nvcc") for folder in homes]
    for nvcc in found:
        if nvcc and os.access(nvcc, os.X_OK):
            release = re.search(r"release (\d+)\.(\d+)", output([nvcc, "--version"]) or "")
            if release:
                return nvcc, [int(release.group(1)), int(release.group(2))]
    return None, None


def _numbers(path):
    return [int(number) for number in re.findall(r"\d+", path)]


def _capabilities():
    nvidia_smi = shutil.which("nvidia-smi", path=search_path())
    if nvidia_smi is None:
        return []
    said = output([nvidia_smi, "--query-gpu=compute_cap", "--format=csv,noheader"]) or ""
    return [line.strip() for line in said.splitlines() if re.match(r"\s*\d+\.\d+\s*$", line)]


def _cpus():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_available():
    """Return the bytes that may be used, None where that cannot be told. A Mac is given half of what it has."""
    if platform.system() == "Darwin":
        total = (output(["sysctl", "-n", "hw.memsize"]) or "").strip()
        return int(total) // 2 if total.isdigit() else None
    available = re.search(r"^MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    return int(available.group(1)) * 1024 if available else None


def _text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def output(argv, timeout_s=60):
    """Return what a program prints, None where it cannot be started, fails or hangs."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
