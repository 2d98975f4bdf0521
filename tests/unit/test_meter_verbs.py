"""What `melt doctor` and `melt devices power` say of the power meter that a lab's file names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from store_samples import make_bundle

from melt.cli._doctor_meter import Metering, metering_of
from melt.cli.main import main
from melt.errors import UsageError

DEVICE = replace(make_bundle().start.device, device_id="android-1", os="android")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELT_DEVICES", str(tmp_path))
    (tmp_path / "trace.csv").write_text("time_s,w\n0,1\n0.1,2\n")
    return tmp_path / "shelf.yaml"


def _name(shelf: Path, meter: str) -> None:
    shelf.write_text(f"title: x\nmatch: {{device_id: android-1}}\nmeter: {meter}\n")


def test_a_meter_that_answers_is_described(shelf: Path) -> None:
    _name(shelf, f"{{kind: recorded, file: {shelf.parent}/trace.csv, accuracy: 0.01}}")
    found = metering_of(DEVICE)
    assert found.words == "recorded trace.csv: whole device, 10 Hz, accurate to 1 %"
    assert found.record is not None
    assert found.record["answers"] is True
    assert metering_of(replace(DEVICE, device_id="another")) == Metering()


def test_a_meter_that_does_not_answer_is_said_with_what_to_do(shelf: Path) -> None:
    _name(shelf, "{kind: lines, command: ['false'], columns: [w], rate_hz: 10}")
    found = metering_of(DEVICE)
    assert found.words == "lines, does not answer"
    assert found.advice == ("the meter's program false ended (exit code 1)",)


def test_a_file_that_is_wrong_is_named(shelf: Path) -> None:
    _name(shelf, "{kind: lines, command: ['true'], columns: [w]}")
    with pytest.raises(UsageError, match=r"shelf\.yaml: meter: rate_hz is missing"):
        metering_of(DEVICE)


def test_power_is_switched_by_the_name_of_a_profile(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _name(shelf, f"{{kind: recorded, file: {shelf.parent}/trace.csv}}")
    assert main(["devices", "power", "shelf", "off"]) == 2
    assert "no output to switch off" in capsys.readouterr().err
    assert main(["devices", "power", "shelv", "on"]) == 2
    assert "no profile 'shelv' names a power meter; those with one: shelf" in capsys.readouterr().err
