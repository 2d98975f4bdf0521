"""The knobs of a Jetson: its power mode (nvpmodel) and fixed clocks (jetson_clocks), each read, set and put back.

Both need root: sudo is asked, never with a question back (`-n`), and who may not is told which line an administrator
must add. Nothing here restarts a board: a mode that wants a restart is not set, and the run says so. The mode comes
first, since it sets clocks anew; they are put back the other way around.

What the tools do: https://docs.nvidia.com/jetson/archives/ ("Power and Performance"). The shell programs are constants;
values reach them as arguments. sudo runs as root, so that the agent could not end it at its deadline: a shell stands
between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from melt.errors import DeviceError, UsageError
from melt.records import DeviceFacts
from melt.targets.jetson import CPU_CLOCKS, CPU_LIMITS, GPU_CLOCKS, GPU_LIMITS, QUERY, parse_mode
from melt.targets.knobs import Argv, Device, Run, Setting, said

KNOBS = ("nvpmodel", "jetson_clocks")

FIXED, FREE = "fixed", "free"
_CONFIG = "/etc/nvpmodel.conf"
_SUDOERS = "/etc/sudoers.d/melt"
_HARMLESS = {"nvpmodel": "-q", "jetson_clocks": "--help"}
_PACKAGES = {"nvpmodel": "nvidia-l4t-nvpmodel", "jetson_clocks": "nvidia-l4t-tools"}

_SBIN = "PATH=$PATH:/usr/sbin; "
_PRINT_MODE = "nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: *//p' | tail -n 1"
# A tool that the agent's deadline cut off, or a stop, goes on as root: what follows waits for it, or it would win.
_WAIT = 'n=0; while pgrep -x "${tool##*/}" >/dev/null && [ $n -lt 40 ]; do n=$((n+1)); sleep 0.2; done; '
# nvpmodel may want a restart even for the mode that is set already, so it is not asked for that. It reads no answer:
# that is a no, and leaves everything as it was.
_SET_MODE = (
    f"{_SBIN}want=$1 number=$2 sudo=$3 tool=$4 clocks=$5; mode() {{ {_PRINT_MODE}; }}; {_WAIT}"
    '[ "$(mode)" = "$want" ] && exit 0; words=$($sudo "$tool" -m "$number" </dev/null 2>&1); '
    'if [ "$(mode)" != "$want" ]; then case $words in *eboot*|*EBOOT*) '
    'words="it takes a restart: sudo nvpmodel -m $number, answer yes, and measure again afterwards";; esac; '
    'echo "$words" >&2; exit 1; fi; [ -z "$clocks" ] || $sudo "$clocks" </dev/null >&2'
)
# Stored first, and only fixed if that worked: it is the only way back.
_FIX = (
    'f=$1 sudo=$2 tool=$3; rm -f "$f"; $sudo "$tool" --store "$f" </dev/null >&2 && [ -s "$f" ] '
    '&& $sudo "$tool" </dev/null >&2'
)
_RELEASE = f'f=$1 sudo=$2 tool=$3; {_WAIT}[ ! -f "$f" ] || $sudo "$tool" --restore "$f" </dev/null >&2'


def _compared(folder: str, limits: tuple[str, str]) -> str:
    low, high = (f'"$(cat $folder/{name} 2>/dev/null)"' for name in limits)
    state = f"if [ {low} = {high} ]; then state=${{state:-{FIXED}}}; else state={FREE}; fi"
    return f"for folder in {folder}; do [ -e $folder/{limits[0]} ] || continue; {state}; done; "


# The same question as `jetson.clocks_locked`, asked on the device. It prints nothing where there are no clocks to see.
_PRINT_CLOCKS = f"{_compared(CPU_CLOCKS, CPU_LIMITS)}{_compared(' '.join(GPU_CLOCKS), GPU_LIMITS)}echo $state"


@dataclass(frozen=True, slots=True)
class Mode:
    """A power mode. `cpus`: those that are on in it, empty where its description does not say."""

    number: int
    name: str
    cpus: tuple[int, ...]


def parse_modes(config: str) -> list[Mode]:
    """Read the modes out of nvpmodel's configuration; what is no mode is passed over."""
    modes = []
    for section in re.split(r"^[ \t]*<", config, flags=re.MULTILINE):
        head = section.partition("\n")[0].partition(">")[0].split()
        fields = dict(field.split("=", 1) for field in head if "=" in field)
        if head[:1] == ["POWER_MODEL"] and fields.get("NAME") and fields.get("ID", "").isdecimal():
            modes.append(Mode(int(fields["ID"]), fields["NAME"], _cpus(section)))
    return modes


def _cpus(section: str) -> tuple[int, ...]:
    said = {
        int(cpu): on == "1" for cpu, on in re.findall(r"^\s*CPU_ONLINE\s+CORE_(\d{1,4})\s+(\S+)", section, re.MULTILINE)
    }
    # The first one is not named where it cannot be switched off.
    return tuple(sorted(cpu for cpu, on in ({0: True} | said).items() if on)) if said else ()


def choose(modes: list[Mode], asked: str, device: str) -> Mode:
    """Return the mode of that name or number. Raises UsageError naming those that there are."""
    found = next((mode for mode in modes if asked.upper() in (mode.name.upper(), str(mode.number))), None)
    if found is None:
        has = ", ".join(f"{mode.name} ({mode.number})" for mode in modes) or "none"
        raise UsageError(f"conditions: nvpmodel: {device} has no power mode {asked!r}; its modes are {has}")
    return found


def plan(wanted: Mapping[str, object], device: Device) -> list[Setting]:
    """Read the knobs that are wanted and plan how each is set and put back. What is so already is only watched.

    Raises UsageError for a mode that this board does not have, for clocks that cannot be released, and where root's
    rights are missing; DeviceError where a state that must be put back cannot be read; TransportError.
    """
    clocks = said(device.run, _shell(_PRINT_CLOCKS), "the limits of the clocks").strip()
    settings = []
    if "nvpmodel" in wanted:
        settings.append(_mode(str(wanted["nvpmodel"]), clocks == FIXED, device))
    if "jetson_clocks" in wanted:
        settings.append(_clocks(FIXED if wanted["jetson_clocks"] else FREE, clocks, device))
    return settings


def _mode(asked: str, fixed: bool, device: Device) -> Setting:
    _find("nvpmodel", device)
    config = said(device.run, ("cat", _CONFIG), "the power modes")
    now = parse_mode(said(device.run, QUERY, "the power mode"))
    if now is None:
        raise DeviceError("conditions: the power mode cannot be read, so it could not be put back: none was set yet")
    modes = parse_modes(config)
    mode = choose(modes, asked, device.facts.name)
    before, number = now
    check = _shell(_SBIN + _PRINT_MODE)
    if mode.name == before:
        return Setting("nvpmodel", before, mode.name, (), check, ())
    sudo, tool = _allowed("nvpmodel", device)
    # A mode sets the clocks' limits anew: those that were fixed are fixed again, in this mode and back in the other.
    clocks = _allowed("jetson_clocks", device)[1] if fixed else ""
    sets = _shell(_SET_MODE, mode.name, str(mode.number), sudo, tool, clocks)
    restores = _shell(_SET_MODE, before, str(number), sudo, tool, clocks)
    found = next((other for other in modes if other.number == number), None)
    cpus = None if found is None else _usable_in(mode, found, device.facts)
    return Setting("nvpmodel", before, mode.name, (sets,), check, (restores,), cpus)


def _usable_in(mode: Mode, found: Mode, facts: DeviceFacts) -> tuple[int, ...] | None:
    """Return the CPUs that a runner may use in the mode. One that is on now and may not be used will not be then."""
    usable = {cpu.index for cpu in facts.cpus}
    if not mode.cpus or not found.cpus:
        return None
    return tuple(cpu for cpu in mode.cpus if cpu in usable or cpu not in found.cpus)


def _clocks(asked: str, before: str, device: Device) -> Setting:
    if not before:
        raise DeviceError(
            "conditions: jetson_clocks: no clocks can be read on this board, so they could not be put back"
        )
    check = _shell(_PRINT_CLOCKS)
    if asked == before:
        return Setting("jetson_clocks", before, asked, (), check, ())
    if asked == FREE:
        raise UsageError(
            f"conditions: jetson_clocks: the clocks of {device.facts.name} are fixed, and what they were before only "
            "who fixed them can tell: `sudo jetson_clocks --restore FILE` with the file of `--store`, or a restart"
        )
    sudo, tool = _allowed("jetson_clocks", device)
    # In the job's own folder: no other run writes over it, and it is there for as long as the job can be recovered.
    stored = f"{device.folder}/clocks"
    sets, restores = _shell(_FIX, stored, sudo, tool), _shell(_RELEASE, stored, sudo, tool)
    return Setting("jetson_clocks", before, asked, (sets,), check, (restores,))


def _shell(program: str, *arguments: str) -> Argv:
    return ("sh", "-c", program, "melt", *arguments)


def _find(tool: str, device: Device) -> str:
    path = device.run(_shell(f'{_SBIN}command -v "$1"', tool)).stdout.decode(errors="replace").strip()
    if not path:
        raise UsageError(
            f"conditions: {tool}: {device.facts.name} has no such program; it comes with NVIDIA's Jetson Linux, "
            f"in the package {_PACKAGES[tool]}"
        )
    return path


def _allowed(tool: str, device: Device) -> tuple[str, str]:
    """Return what to put before the tool, and the tool's path. Raises UsageError where it may not be run as root."""
    path = _find(tool, device)
    if _printed(device.run, "-u") == "0":
        return "", path
    # Not `sudo -l`: it lists what may be run with a password, too. This changes nothing.
    done = device.run(("sudo", "-n", path, _HARMLESS[tool]))
    if done.exit_code:
        user = _printed(device.run, "-un")
        words = done.stderr.decode(errors="replace").strip().splitlines()
        because = words[-1].strip() if words else f"exit code {done.exit_code}"
        both = ", ".join(_find(name, device) for name in KNOBS)
        raise UsageError(
            f"conditions: {tool}: the user {user} of {device.facts.name} may not run {path} as root without a password "
            f"({because}); with `sudo visudo -f {_SUDOERS}` add there: {user} ALL=(root) NOPASSWD: {both}"
        )
    return "sudo -n", path


def _printed(run: Run, option: str) -> str:
    return said(run, ("id", option), "who the user is").strip()
