"""The programs that run on a Mac, as processes here: what they ask is played by stand-ins that replay recordings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from melt._layout import agents_dir
from melt.records import Sampling
from melt.telemetry.platforms import macos_ioreport, macos_powermetrics

DATA = Path(__file__).parents[1] / "data" / "macos"
PLIST = DATA / "powermetrics" / "m4-max.plist"
READING = DATA / "ioreport" / "m2.json"
RATE_HZ = Sampling().sensors_hz

ZEUS = """
import json, types
READING = json.load(open({reading!r}))
class AppleEnergyMonitor:
    def __init__(self):
        if {broken!r}:
            raise RuntimeError({broken!r})
        self.count = 0
    def get_cumulative_energy(self):
        self.count += 1
        return types.SimpleNamespace(**dict(READING, cpu_total_mj=READING["cpu_total_mj"] + self.count))
"""

SUDO = """\
#!{python}
# Stands in for `sudo -n powermetrics ...`: prints its own words on stderr, then the recording, in pieces.
import sys, time
print(" ".join(sys.argv[1:]), file=sys.stderr)
sample = open({plist!r}, "rb").read()
out = sys.stdout.buffer
def piece(data):
    out.write(data); out.flush()
{body}
"""


def program(name: str) -> str:
    return str(agents_dir() / "streams" / name)


class Running:
    """One of the programs, with stand-ins in front of everything else."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    def line(self) -> dict[str, object]:
        assert self.process.stdout is not None
        found: dict[str, object] = json.loads(self.process.stdout.readline())
        return found

    def kill(self) -> None:
        """End it and what it started, as the agent does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.end()

    def end(self) -> tuple[int, bytes, bytes]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def ioreport(tmp_path: Path, *, broken: str = "", period: str = "20") -> Running:
    (tmp_path / "zeus_apple_silicon.py").write_text(ZEUS.format(reading=str(READING), broken=broken))
    return Running([sys.executable, program("ioreport_stream.py"), period], {"PYTHONPATH": str(tmp_path)})


def powermetrics(tmp_path: Path, body: str) -> Running:
    sudo = tmp_path / "sudo"
    sudo.write_text(SUDO.format(python=sys.executable, plist=str(PLIST), body=textwrap.dedent(body)))
    sudo.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    return Running([sys.executable, program("powermetrics_stream.py"), "100"], {"PATH": path})


def test_energy_counters_come_as_they_are_and_the_decoder_reads_them(tmp_path: Path) -> None:
    running = ioreport(tmp_path)
    first, second = running.line(), running.line()
    running.kill()
    assert first["cpu_total_mj"] == 812346
    assert second["cpu_total_mj"] == 812347
    assert first["gpu_sram_mj"] == 123
    ((source,), _) = macos_ioreport.counters({"$ ioreport": READING.read_bytes()}, RATE_HZ)
    values = dict(zip((s.name for s in source.streams), source.parse(json.dumps(first).encode()), strict=True))
    assert values["ioreport_cpu_j"] == pytest.approx(812.346)
    assert values["ioreport_e_cluster_j"] == pytest.approx(112.233)


def test_the_look_at_the_counters_names_the_interpreter_that_took_it(tmp_path: Path) -> None:
    """The probe of a snapshot, as the shell of a Mac would run it in its home."""
    interpreter = tmp_path / ".melt" / "venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.symlink_to(sys.executable)
    (tmp_path / "zeus_apple_silicon.py").write_text(ZEUS.format(reading=str(READING), broken=""))
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(macos_ioreport.COMMANDS["ioreport"], capture_output=True, env=environment, check=True)
    assert json.loads(done.stdout)["python"] == str(interpreter)
    ((source,), _) = macos_ioreport.counters({"$ ioreport": done.stdout}, RATE_HZ)
    assert source.argv[0] == str(interpreter)
    environment |= {"HOME": "/nowhere", "VIRTUAL_ENV": ""}
    refused = subprocess.run(macos_ioreport.COMMANDS["ioreport"], capture_output=True, env=environment, check=False)
    assert refused.returncode == 1


@pytest.mark.parametrize("broken", ["Failed to create IOReport subscription.", ""])
def test_without_counters_there_is_one_sentence(tmp_path: Path, broken: str) -> None:
    running = ioreport(tmp_path, broken=broken)
    if not broken:
        running.kill()
        (tmp_path / "zeus_apple_silicon.py").write_text("raise ImportError('no such module')")
        running = Running([sys.executable, program("ioreport_stream.py"), "20"], {"PYTHONPATH": str(tmp_path)})
    code, out, err = running.end()
    assert (code, out) == (1, b"")
    assert err.startswith(b"no energy counters: ")
    assert err.count(b"\n") == 1


def test_a_program_whose_reader_went_away_ends(tmp_path: Path) -> None:
    for running in (
        ioreport(tmp_path, period="5"),
        powermetrics(tmp_path, "while True: piece(sample); time.sleep(0.005)"),
    ):
        running.line()
        assert running.process.stdout is not None
        running.process.stdout.close()
        running.process.stdout = None
        code, _, err = running.end()
        assert code == 0
        assert b"_stream.py" not in err, "no traceback of ours; the stand-in complains of its broken pipe"


def test_samples_of_many_lines_become_lines_whatever_pieces_they_come_in(tmp_path: Path) -> None:
    body = """
    two = sample + b"\\0" + sample.replace(b"1023685416", b"108000000") + b"\\0"
    for start in range(0, len(two), 7919):
        piece(two[start : start + 7919])
    """
    code, out, err = powermetrics(tmp_path, body).end()
    assert code == 0
    assert err == b"-n powermetrics --samplers cpu_power,gpu_power,thermal -f plist -i 100\n"
    first, second = map(json.loads, out.splitlines())
    assert (first["elapsed_ns"], second["elapsed_ns"]) == (1023685416, 108000000)
    assert first["processor"]["cpu_power"] == 2978.45
    assert first["thermal_pressure"] == "Nominal"
    assert [cpu["cpu"] for cpu in first["cpus"]] == list(range(16))
    (source,) = macos_powermetrics.readings({"$ powermetrics": PLIST.read_bytes()}, RATE_HZ)
    values = dict(zip((s.name for s in source.streams), source.parse(out.splitlines()[0]), strict=True))
    assert values["powermetrics_cpu_w"] == pytest.approx(2.97845)
    assert values["cpu9_freq_hz"] == pytest.approx(4.05184e9)
    assert values["cpu15_freq_hz"] == 0.0, "a cluster that is switched off"
    assert values["powermetrics_gpu_freq_hz"] == pytest.approx(338e6)


def test_a_sample_is_said_before_the_next_one_comes(tmp_path: Path) -> None:
    running = powermetrics(tmp_path, "piece(sample); time.sleep(60)")
    assert running.line()["elapsed_ns"] == 1023685416
    running.kill()


def test_what_is_no_property_list_is_passed_over(tmp_path: Path) -> None:
    body = """
    piece(b"powermetrics: warning\\n<plist><dict><key>a</key></plist>\\0" + sample)
    piece(b"\\0<plist><array/></plist>\\0<plist><dict><key>elapsed_ns</key><integer>5</integer></dict></plist>")
    piece(b"\\0<plist><dict><key>processor</key><array/><key>gpu</key><integer>1</integer></dict></plist>\\0<plist>")
    """
    code, out, err = powermetrics(tmp_path, body).end()
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["elapsed_ns"] for line in lines] == [1023685416, 5, None]
    assert lines[2]["cpus"] == []
    assert b"no property list" in err


def test_a_refusal_is_handed_on(tmp_path: Path) -> None:
    code, out, err = powermetrics(tmp_path, 'sys.stderr.write("sudo: a password is required\\n"); sys.exit(1)').end()
    assert (code, out) == (1, b"")
    assert err.endswith(b"sudo: a password is required\n")


@pytest.mark.parametrize("name", ["ioreport_stream.py", "powermetrics_stream.py"])
@pytest.mark.parametrize("words", [[], ["fast"], ["0"], ["100", "x"]])
def test_wrong_usage(name: str, words: list[str]) -> None:
    code, out, err = Running([sys.executable, program(name), *words], {}).end()
    assert (code, out) == (2, b"")
    assert err.startswith(b"usage: ")
