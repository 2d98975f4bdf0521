"""What lies in this folder (`store_samples`) can be imported by every test below it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import subprocess
from contextlib import suppress
from types import ModuleType

import pytest
from hypothesis import settings

# A developer's minute is for many tests, CI's for many examples of each.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", deadline=None)
settings.load_profile("thorough" if os.environ.get("CI") else "quick")


_BUILDER = pytest.StashKey[subprocess.Popen[bytes]]()


def _needs_native(item: pytest.Item) -> bool:
    return item.get_closest_marker("native") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that need the native runner last: until it is built, workers have other things to do."""
    items.sort(key=_needs_native)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where workers share the tests, let one of them begin to build what the last tests need."""
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw0" and any(map(_needs_native, session.items)):
        session.config.stash[_BUILDER] = importlib.import_module("native_runners").begin_builds()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End a build that nobody waits for any more; the next one goes on with it."""
    builder = session.config.stash.get(_BUILDER, None)
    if builder is not None:
        with suppress(ProcessLookupError):
            os.killpg(builder.pid, signal.SIGTERM)
        builder.wait()


@pytest.fixture(scope="session")
def needs_llama_cpp() -> None:
    """Skip where llama-cpp-python is not installed, without the second that importing it takes."""
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed (extra: llama)")


# Few tests need these, and every process that collects tests would wait for their imports.


@pytest.fixture(scope="session")
def llama_cpp(needs_llama_cpp: None) -> ModuleType:
    module = importlib.import_module("llama_cpp")
    for left_open in (module._utils.outnull_file, module._utils.errnull_file):
        left_open.close()  # otherwise each process complains about both when it ends
    return module


@pytest.fixture(scope="session")
def scipy_stats() -> ModuleType:
    return importlib.import_module("scipy.stats")


@pytest.fixture(scope="session")
def scipy_integrate() -> ModuleType:
    return importlib.import_module("scipy.integrate")


@pytest.fixture(scope="session")
def polars() -> ModuleType:
    return importlib.import_module("polars")


@pytest.fixture(scope="session")
def duckdb() -> ModuleType:
    return importlib.import_module("duckdb")
