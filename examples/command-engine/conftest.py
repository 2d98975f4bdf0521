"""What the suites of `pytest --pyargs melt.testing` need to know of this plug-in."""

from pathlib import Path

from melt.testing.cases import EngineCase

HERE = Path(__file__).parent


def pytest_melt_cases():
    """Return the program that this package brings along, and what it once printed."""
    said = {path.stem: path.read_bytes() for path in sorted((HERE / "recorded").glob("*.jsonl"))}
    return [EngineCase(name=f"command:{HERE / 'weights.yaml'}", said=said)]
