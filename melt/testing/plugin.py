"""pytest's way to measure: the fixture `melt_run`, and the options that say where and into which store.

And its way to hold plug-ins of melt to what they must do: `pytest --pyargs melt.testing`. docs/extending.md tells how.
pytest loads this in every project where melt is installed: nothing of melt is imported until a test measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from melt.testing.cases import Case
    from melt.testing.measured import Measured

_SUITES = ("engines", "transports", "power_meters", "telemetry")
pytest.register_assert_rewrite(*(f"melt.testing.test_{suite}" for suite in _SUITES))


class _Hooks:
    """What a plug-in's author may write into a conftest.py."""

    @pytest.hookspec
    def pytest_melt_cases(self) -> Sequence[Case]:  # type: ignore[empty-body]
        """Return what the suites of `pytest --pyargs melt.testing` need to know: see melt.testing.cases."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hook."""
    pluginmanager.add_hookspecs(_Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("melt", "measuring on devices")
    group.addoption(
        "--melt-store",
        metavar="DIR",
        help="results folder of melt_run, which judges by the nights in it (default: one that is thrown away)",
    )
    group.addoption("--melt-device", metavar="NAME", help="device of every melt_run that names none")
    suites = parser.getgroup("melt plug-ins", "what `pytest --pyargs melt.testing` is to be held against")
    for option, metavar, what in (
        ("--melt-engine", "NAME[:…]", "an engine, as after --engine"),
        ("--melt-transport", "NAME:ADDRESS", "a way to a device, as after --device"),
        ("--melt-meter", "KIND[:OPTIONS]", "a power meter, with options in YAML"),
        ("--melt-telemetry", "NAME", "a plug-in that adds channels to devices"),
    ):
        suites.addoption(option, metavar=metavar, action="append", default=[], help=what)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a suite that nothing is held against."""
    if collection_path.parent != Path(__file__).parent or not collection_path.name.startswith("test_"):
        return None
    from melt.testing.cases import GROUPS, cases

    kind = GROUPS.get(collection_path.stem)
    return True if kind is not None and not cases(config, kind) else None


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """Say what the suites are held against where they were asked for."""
    if not any(word.startswith("melt.testing") for word in config.args):
        return []
    from melt.testing.cases import OPTIONS, cases

    said = []
    for kind, option in OPTIONS.items():
        found = ", ".join(case.name for case in cases(config, kind))
        said.append(f"melt: --{option.replace('_', '-')}: {found or 'none asked for, and no plug-in is installed'}")
    return said


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
