"""pytest's way to measure: the fixture `melt_run`, and the options that say where and into which store.

pytest loads this in every project where melt is installed: nothing of melt is imported until a test measures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from melt.testing.measured import Measured


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("melt", "measuring on devices")
    group.addoption(
        "--melt-store",
        metavar="DIR",
        help="results folder of melt_run, which judges by the nights in it (default: one that is thrown away)",
    )
    group.addoption("--melt-device", metavar="NAME", help="device of every melt_run that names none")


@pytest.fixture(scope="session")
def melt_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results folder: that of `--melt-store`, else one of this test session."""
    given = request.config.getoption("--melt-store")
    return tmp_path_factory.mktemp("melt") if given is None else Path(given).expanduser().absolute()


@pytest.fixture
def melt_run(request: pytest.FixtureRequest, melt_store: Path) -> Callable[..., Measured]:
    """Return a function that measures as `melt run` would with the same words, and gives what came of it.

    `melt_run("plans/phone.yaml")`, `melt_run("--model", "tiny-pydoc", "-p", "32")`. It raises UsageError for what
    `melt run` refuses. A test report names the sweep (`melt_sweep`).
    """
    from melt.testing.measured import measure

    device = request.config.getoption("--melt-device")

    def run(*words: str) -> Measured:
        found = measure(words, melt_store, device)
        # record_property would do the same, but warns under junit_family=xunit2, which is the default.
        request.node.user_properties.append(("melt_sweep", found.sweep_id))
        return found

    return run
