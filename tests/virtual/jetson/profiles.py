"""Which board is played: what its files are called and what they say at rest. Powers and times are invented.

Layouts and names: NVIDIA's Jetson Linux Developer Guide (r32.7, r36.4), "Platform Power and Performance", and what
public issues of jetson-stats show of each board.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class BadProfile(Exception):
    """There is no such board; the sentence names those that are."""


@dataclass(frozen=True)
class Mode:
    """A power mode of nvpmodel. `gpu_mask` None: as in every mode; a mode with another one asks for a reboot."""

    number: int
    name: str
    cpus: int
    cpu_max_khz: int
    gpu_max_hz: int
    emc_max_hz: int
    gpu_mask: int | None = None


@dataclass(frozen=True)
class Cpu:
    """`part`, `variant` and `revision` are what /proc/cpuinfo shows; `clusters` the first CPU of each policy."""

    count: int
    part: str
    variant: str
    revision: int
    features: str
    clusters: tuple[int, ...]
    steps_khz: tuple[int, ...]
    lowest_khz: int
    """What nvpmodel lets the clock fall to."""

    idle_w: float
    load_w: float


@dataclass(frozen=True)
class Gpu:
    """`address` is the device's name, `folder` where it lies below /sys/devices."""

    address: str
    folder: str
    steps_hz: tuple[int, ...]
    load_w: float
    follows: float = 0.2
    """Its load, as a share of that of the CPUs: nothing computes on it here, but a dead value shows nothing."""


@dataclass(frozen=True)
class Rails:
    """The INA3221: its I2C name, where it lies, and its channels. The first channel is all that goes in.

    `cpu_gpu` and `soc` name what the load goes through; what neither takes, the carrier board does.
    """

    device: str
    folder: str
    layout: str
    """`hwmon` (JetPack 5 and later) or `iio` (JetPack 4)."""

    total: str
    gpu: str
    cpu: str
    """The same as `gpu` where one rail feeds both."""

    rest: str | None
    millivolt: int = 5064
    rest_w: float = 1.2
    board_w: float = 0.9


@dataclass(frozen=True)
class Profile:
    """A board."""

    name: str
    model: str
    compatible: tuple[str, ...]
    serial: str
    release: str
    """The first line of /etc/nv_tegra_release."""

    kernel: str
    cpu: Cpu
    gpu: Gpu
    rails: Rails
    zones: tuple[str, ...]
    modes: tuple[Mode, ...]
    default_mode: int
    memory_kb: int
    emc_hz: int
    legacy_debugfs: bool
    """Whether the memory clock and the fan lie where JetPack 4 has them."""

    clocks_file: str
    """Where jetson_clocks keeps what it found."""

    os_name: str
    constant_c: dict[str, float] = field(default_factory=dict)
    """Zones that never move."""

    rest_c: float = 41.0
    throttle_c: float = 97.0

    def mode(self, number: int) -> Mode:
        """Return a power mode by its number."""
        return next(mode for mode in self.modes if mode.number == number)


_A78_FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp uscat ilrcpc "
    "flagm paca pacg"
)

ORIN_NANO_JP6 = Profile(
    name="orin-nano-jp6",
    model="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    compatible=("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"),
    serial="1421123000001",
    release="# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 "
    "UTC 2025",
    kernel="5.15.148-tegra",
    cpu=Cpu(
        count=6,
        part="0xd42",
        variant="0x0",
        revision=1,
        features=_A78_FEATURES,
        clusters=(0, 4),
        steps_khz=tuple(range(115_200, 1_728_001, 76_800)),
        lowest_khz=729_600,
        idle_w=0.35,
        load_w=6.0,
    ),
    gpu=Gpu(
        address="17000000.gpu",
        folder="platform/bus@0/17000000.gpu",
        steps_hz=tuple(range(306_000_000, 1_020_000_001, 102_000_000)),
        load_w=7.0,
    ),
    rails=Rails(
        device="1-0040",
        folder="platform/bus@0/c240000.i2c/i2c-1",
        layout="hwmon",
        total="VDD_IN",
        gpu="VDD_CPU_GPU_CV",
        cpu="VDD_CPU_GPU_CV",
        rest="VDD_SOC",
    ),
    zones=(
        "cpu-thermal",
        "gpu-thermal",
        "cv0-thermal",
        "cv1-thermal",
        "cv2-thermal",
        "soc0-thermal",
        "soc1-thermal",
        "soc2-thermal",
        "tj-thermal",
    ),
    modes=(
        Mode(0, "15W", 6, 1_497_600, 612_000_000, 2_133_000_000, 0),
        Mode(1, "25W", 6, 1_344_000, 918_000_000, 3_199_000_000, 0),
        Mode(2, "MAXN_SUPER", 6, 1_728_000, 1_020_000_000, 3_199_000_000, 0),
        Mode(3, "7W", 4, 960_000, 408_000_000, 2_133_000_000, 3),
    ),
    default_mode=1,
    memory_kb=7_803_096,
    emc_hz=3_199_000_000,
    legacy_debugfs=False,
    clocks_file="/root/.jetsonclocks_conf.txt",
    os_name="Ubuntu 22.04.5 LTS",
)

NANO_JP4 = Profile(
    name="nano-jp4",
    model="NVIDIA Jetson Nano Developer Kit",
    compatible=("nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,jetson-nano", "nvidia,tegra210"),
    serial="1422919000002",
    release="# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: Sat Feb 19 17:05:08 "
    "UTC 2022",
    kernel="4.9.253-tegra",
    cpu=Cpu(
        count=4,
        part="0xd07",
        variant="0x1",
        revision=1,
        features="fp asimd evtstrm aes pmull sha1 sha2 crc32",
        clusters=(0,),
        steps_khz=(
            *(102_000, 204_000, 307_200, 403_200, 518_400, 614_400, 710_400, 825_600),
            *(921_600, 1_036_800, 1_132_800, 1_224_000, 1_326_000, 1_428_000, 1_479_000),
        ),
        lowest_khz=102_000,
        idle_w=0.15,
        load_w=3.2,
    ),
    gpu=Gpu(
        address="57000000.gpu",
        folder="57000000.gpu",
        steps_hz=tuple(range(76_800_000, 921_600_001, 76_800_000)),
        load_w=3.5,
    ),
    rails=Rails(
        device="6-0040",
        folder="7000c400.i2c/i2c-1/i2c-6",
        layout="iio",
        total="POM_5V_IN",
        gpu="POM_5V_GPU",
        cpu="POM_5V_CPU",
        rest=None,
        millivolt=5040,
        board_w=1.3,
    ),
    zones=("AO-therm", "CPU-therm", "GPU-therm", "PLL-therm", "PMIC-Die", "thermal-fan-est"),
    modes=(
        Mode(0, "MAXN", 4, 1_479_000, 921_600_000, 1_600_000_000),
        Mode(1, "5W", 2, 921_600, 614_400_000, 1_600_000_000),
    ),
    default_mode=0,
    memory_kb=4_059_196,
    emc_hz=1_600_000_000,
    legacy_debugfs=True,
    clocks_file="/root/l4t_dfs.conf",
    os_name="Ubuntu 18.04.6 LTS",
    constant_c={"PMIC-Die": 100.0},
    rest_c=33.0,
)

_PROFILES = {profile.name: profile for profile in (ORIN_NANO_JP6, NANO_JP4)}


def names() -> list[str]:
    """Return the boards that can be played."""
    return sorted(_PROFILES)


def load(name: str) -> Profile:
    """Return a board by its name. Raises BadProfile."""
    try:
        return _PROFILES[name]
    except KeyError:
        raise BadProfile(f"no board {name!r}; there are: {', '.join(names())}") from None
