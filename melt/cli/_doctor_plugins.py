"""Which plug-ins are installed on this computer, who brought them, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.plugins import Plugin


@dataclass(frozen=True, slots=True)
class Listed:
    """A plug-in: what it is (`engine 'command'`), whose, and why it is of no use; None: nothing was found."""

    group: str
    name: str
    what: str
    package: str
    target: str
    trouble: str | None

    @property
    def words(self) -> str:
        """Say so in a line."""
        return f"{self.what} of {self.package}" + ("" if self.trouble is None else ", of no use")


def plugins_here() -> list[Listed]:
    """Load every plug-in that is installed, and list each."""
    from melt import plugins
    from melt.engines import registry as engines
    from melt.telemetry import meters
    from melt.transports import registry as transports

    own = {
        plugins.ENGINES: engines.reserved(),
        plugins.TRANSPORTS: transports.reserved(),
        plugins.POWER_METERS: meters.reserved(),
    }
    return [
        Listed(
            group=group,
            name=plugin.name,
            what=f"{what} '{plugin.name}'",
            package=plugin.package,
            target=plugin.target,
            trouble=plugins.trouble(plugin, own.get(group, ())) or _odd_probe(plugin),
        )
        for group, what in plugins.GROUPS.items()
        for plugin in plugins.plugins(group)
    ]


def _odd_probe(plugin: Plugin) -> str | None:
    """Say why a telemetry probe that can be loaded is none; None where it is one, and for all else."""
    from melt.plugins import TELEMETRY, PluginError
    from melt.telemetry.platforms.added import probe_of

    if plugin.group != TELEMETRY:
        return None
    try:
        probe_of(plugin)
    except PluginError as error:
        return str(error)
    return None
