"""What a board's files below /proc and /etc say."""

from __future__ import annotations

from collections.abc import Sequence

from .profiles import Mode, Profile

_CPU = "/sys/devices/system/cpu"


def cpuinfo(profile: Profile) -> str:
    """Return /proc/cpuinfo as an arm64 kernel writes it."""
    cpu = profile.cpu
    blocks = [
        f"processor\t: {number}\nmodel name\t: ARMv8 Processor rev {cpu.revision} (v8l)\nBogoMIPS\t: 62.50\n"
        f"Features\t: {cpu.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: {cpu.variant}\n"
        f"CPU part\t: {cpu.part}\nCPU revision\t: {cpu.revision}\n\n"
        for number in range(cpu.count)
    ]
    return "".join(blocks)


def meminfo(profile: Profile, used_kb: int) -> str:
    """Return /proc/meminfo with the lines of NVIDIA's allocator, of which a part is taken at rest."""
    total = profile.memory_kb
    cached = total // 6
    nvmap = total // 12
    free = max(total // 50, total - cached - nvmap - used_kb)
    rows = {
        "MemTotal": total,
        "MemFree": free,
        "MemAvailable": free + cached * 9 // 10,
        "Buffers": total // 100,
        "Cached": cached,
        "SwapCached": 0,
        "Dirty": 120,
        "SwapTotal": total // 2,
        "SwapFree": total // 2,
        "NvMapMemFree": 0,
        "NvMapMemUsed": nvmap,
    }
    return "".join(f"{name + ':':<15}{value:>9} kB\n" for name, value in rows.items())


def stat(busy: Sequence[float | None], up_s: float, booted_s: int) -> str:
    """Return /proc/stat. `busy`: seconds that each CPU has worked, None where it is offline."""
    lines = []
    sums = [0, 0]
    for number, seconds in enumerate(busy):
        if seconds is not None:
            ticks = [round(seconds * 100), max(0, round((up_s - seconds) * 100))]
            sums = [sums[0] + ticks[0], sums[1] + ticks[1]]
            lines.append(f"cpu{number} {ticks[0]} 0 0 {ticks[1]} 0 0 0 0 0 0")
    head = f"cpu  {sums[0]} 0 0 {sums[1]} 0 0 0 0 0 0"
    tail = f"intr 0\nctxt 0\nbtime {booted_s}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n"
    return "\n".join([head, *lines, tail])


def nvpmodel_conf(profile: Profile) -> str:
    """Return /etc/nvpmodel.conf: which file each knob is, then what each mode sets."""
    gpu = f"/sys/devices/{profile.gpu.folder}/devfreq/{profile.gpu.address}"
    lines = ["< PARAM TYPE=FILE NAME=CPU_ONLINE >"]
    lines += [f"CORE_{n} {_CPU}/cpu{n}/online" for n in range(profile.cpu.count)]
    for first in profile.cpu.clusters:
        lines.append(f"< PARAM TYPE=CLOCK NAME=CPU_CLUSTER_{first} >")
        for name in ("MAX_FREQ", "MIN_FREQ"):
            lines.append(f"{name} {_CPU}/cpufreq/policy{first}/scaling_{name.lower()}")
    lines += ["< PARAM TYPE=CLOCK NAME=GPU >", f"MAX_FREQ {gpu}/max_freq", f"MIN_FREQ {gpu}/min_freq"]
    lines += ["< PARAM TYPE=FILE NAME=EMC >", f"MAX_FREQ {emc_cap(profile)}"]
    if any(mode.gpu_mask is not None for mode in profile.modes):
        mask = f"/sys/devices/{profile.gpu.folder}/tpc_pg_mask"
        lines += ["< PARAM TYPE=FILE NAME=TPC_POWER_GATING >", f"TPC_PG_MASK {mask}"]
    for mode in profile.modes:
        lines += _mode_lines(profile, mode)
    return "\n".join([*lines, f"< PM_CONFIG DEFAULT={profile.default_mode} >", ""])


def emc_cap(profile: Profile) -> str:
    """Return the file that limits the memory clock."""
    if profile.legacy_debugfs:
        return "/sys/kernel/nvpmodel_emc_cap/emc_iso_cap"
    return "/sys/kernel/nvpmodel_clk_cap/emc"


def _mode_lines(profile: Profile, mode: Mode) -> list[str]:
    lines = [f"< POWER_MODEL ID={mode.number} NAME={mode.name} >"]
    lines += [f"CPU_ONLINE CORE_{n} {int(n < mode.cpus)}" for n in range(profile.cpu.count)]
    for first in profile.cpu.clusters:
        lines.append(f"CPU_CLUSTER_{first} MIN_FREQ {profile.cpu.lowest_khz}")
        lines.append(f"CPU_CLUSTER_{first} MAX_FREQ {mode.cpu_max_khz}")
    lines.append(f"GPU MIN_FREQ {profile.gpu.steps_hz[0]}")
    lines.append(f"GPU MAX_FREQ {mode.gpu_max_hz}")
    lines.append(f"EMC MAX_FREQ {mode.emc_max_hz}")
    if mode.gpu_mask is not None:
        lines.append(f"TPC_POWER_GATING TPC_PG_MASK {mode.gpu_mask}")
    return lines
