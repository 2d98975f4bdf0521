"""What lies in this folder (`store_samples`) can be imported by every test below it."""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

import pytest
from hypothesis import settings

# A developer's minute is for many tests, CI's for many examples of each.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", deadline=None)
settings.load_profile("thorough" if os.environ.get("CI") else "quick")


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
