"""Stands in for zeus-apple-silicon: counters of energy that rise with this machine's load, in whole millijoules."""

import sys
import time
from types import SimpleNamespace

sys.path.insert(0, "/private/tools")

from load import Load


class AppleEnergyMonitor:
    """The part of the real one's interface that melt uses."""

    def __init__(self):
        self._load, self._before_s, self._busy_mj = Load(), time.monotonic(), 81_042.0

    def get_cumulative_energy(self):
        """Return what was used since the Mac was started."""
        now_s = time.monotonic()
        self._busy_mj += 14_000 * self._load() * (now_s - self._before_s)
        self._before_s = now_s
        busy_mj, idle_mj = int(self._busy_mj), int(now_s * 60)
        performance, efficiency = [busy_mj], [idle_mj]
        return SimpleNamespace(
            cpu_total_mj=sum(performance) + sum(efficiency),
            performance_cluster_mj=performance,
            efficiency_cluster_mj=efficiency,
            dram_mj=busy_mj // 10 + idle_mj // 10,
            gpu_mj=idle_mj // 20,
            gpu_sram_mj=0,
            ane_mj=0,
        )
