"""Stands in for zeus-apple-silicon: counters of energy that rise with this machine's load, in whole millijoules."""

import time
from pathlib import Path
from types import SimpleNamespace


def _busy_s():
    with Path("/proc/stat").open() as file:
        fields = [int(word) for word in file.readline().split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / 100


class AppleEnergyMonitor:
    """The part of the real one's interface that melt uses."""

    def get_cumulative_energy(self):
        """Return what was used since the Mac was started."""
        busy_mj, idle_mj = int(_busy_s() * 4000), int(time.monotonic() * 60)
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
