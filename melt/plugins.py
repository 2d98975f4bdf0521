"""What other packages add to melt: objects behind entry points, found by name, imported only when they are asked for.

A plug-in is somebody else's code. Whatever it raises that is no error of melt's becomes one sentence that names the
plug-in and its package, at the moment it is loaded and in every call later. docs/extending.md is for its author.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

from melt.errors import MeltError, UsageError

ENGINES = "melt.engines"
TRANSPORTS = "melt.transports"
POWER_METERS = "melt.power_meters"
TELEMETRY = "melt.telemetry"
GROUPS = {ENGINES: "engine", TRANSPORTS: "transport", POWER_METERS: "power meter", TELEMETRY: "telemetry probe"}
"""Each group of entry points, and what people call what is in it."""


class PluginError(UsageError):
    """A plug-in cannot be loaded or is not what its group asks for: repair it, or uninstall its package."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point. `package` is who installed it, `melt-command-engine 1.0`; `target` is `module:attribute`."""

    group: str
    name: str
    target: str
    package: str
    _load: Callable[[], Any]

    def __str__(self) -> str:
        return f"{GROUPS[self.group]} '{self.name}' of {self.package}"

    def load(self) -> Any:
        """Return the object behind the entry point. Raises PluginError."""
        try:
            return self._load()
        except KeyboardInterrupt:
            raise
        # A module may end the interpreter as well as fail.
        except BaseException as error:
            raise PluginError(f"the {self} ({self.target}) cannot be loaded: {_said(error)}") from error

    def make(
        self,
        contract: type,
        error: type[MeltError],
        *given: object,
        again: Collection[str] = (),
        by: type[Guarded] | None = None,
    ) -> Any:
        """Call the object with `given` and return what it makes, held to the members of `contract`.

        Its methods raise `error` where the plug-in raises what is no MeltError; those in `again` return what is guarded
        like itself. `by` is who guards. Raises PluginError, and what the plug-in raises of MeltError.
        """
        called = self.load()
        if not callable(called):
            raise PluginError(self._uncallable(called))
        try:
            made = called(*given)
        except MeltError:
            raise
        except OSError as cause:
            raise error(f"the {self} failed: {_said(cause)}") from cause
        except Exception as cause:
            raise PluginError(f"the {self} ({self.target}) cannot be made: {_said(cause)}") from cause
        return self.guard(made, contract, error, again=again, by=by)

    def unfit(self) -> str | None:
        """Say why the object cannot be called where its group asks for that, None where it can. Raises PluginError."""
        loaded = self.load()
        return None if self.group == TELEMETRY or callable(loaded) else self._uncallable(loaded)

    def _uncallable(self, loaded: object) -> str:
        kind = GROUPS[self.group]
        return f"the {self} ({self.target}) is of type {type(loaded).__name__}: name what makes the {kind} when called"

    def guard(
        self,
        made: object,
        contract: type,
        error: type[MeltError],
        *,
        again: Collection[str] = (),
        by: type[Guarded] | None = None,
    ) -> Any:
        """Return an object of the plug-in's as `make` does. Raises PluginError where it lacks a member."""
        lacking = [name for name in members(contract) if not hasattr(made, name)]
        if lacking:
            kind = GROUPS[self.group]
            raise PluginError(f"the {self} ({self.target}) is no {kind}: it is without {', '.join(lacking)}")
        return (by or Guarded)(made, str(self), error, again)


class Guarded:
    """Stands before an object of a plug-in and gives what it raises a name, unless that is a MeltError already."""

    def __init__(self, inner: object, who: str, error: type[MeltError], again: Collection[str] = ()) -> None:
        self._inner, self._who, self._error, self._again = inner, who, error, again

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._calling(name, value) if callable(value) else value

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _calling(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                answer = method(*args, **kwargs)
            except MeltError:
                raise
            except Exception as error:
                raise self._error(f"the {self._who} failed in {name}: {_said(error)}") from error
            if name not in self._again:
                return answer
            if answer is None:
                raise self._error(f"the {self._who} gave nothing in {name}")
            return type(self)(answer, self._who, self._error, self._again)

        return call


def plugins(group: str) -> tuple[Plugin, ...]:
    """Return what is installed of a group, sorted by name; nothing of it is imported."""
    return tuple(plugin for plugin in _installed() if plugin.group == group)


def find(group: str, name: str) -> Plugin | None:
    """Return the plug-in of this name, None where there is none. Raises PluginError where several have it."""
    named = [plugin for plugin in plugins(group) if plugin.name == name]
    if len(named) > 1:
        owners = " and ".join(plugin.package for plugin in named)
        raise PluginError(f"{GROUPS[group]} '{name}' is offered by {owners}: uninstall all but one of them")
    return named[0] if named else None


def trouble(plugin: Plugin, own: Collection[str]) -> str | None:
    """Say why a plug-in is of no use, None where it can be loaded. `own` are the names that melt itself has."""
    if plugin.name in own:
        kind = GROUPS[plugin.group]
        return f"the {plugin} is never used: {kind} '{plugin.name}' is melt's own; its author must give it another name"
    try:
        find(plugin.group, plugin.name)
        return plugin.unfit()
    except PluginError as error:
        return str(error)


def members(contract: type) -> tuple[str, ...]:
    """Return the names of what a Protocol asks for."""
    return tuple(name for name in (*contract.__annotations__, *vars(contract)) if not name.startswith("_"))


@cache
def _installed() -> tuple[Plugin, ...]:
    found = {(point.group, point.name, point.value, _package(point.dist)): point for point in _points()}
    return tuple(Plugin(*key, found[key].load) for key in sorted(found))


def _points() -> Iterator[Any]:
    """Give the entry points of all groups. A package whose list is damaged has none, and costs no other its own."""
    # Imported here: who asks for nothing of others need not wait for it.
    from importlib.metadata import distributions

    seen = set()
    for distribution in distributions():
        try:
            points = [point for point in distribution.entry_points if point.group in GROUPS]
        except (ValueError, TypeError):
            continue
        # Of a package that lies in two places on the path the first is the one that is imported.
        if points and (package := _package(distribution).partition(" ")[0]) not in seen:
            seen.add(package)
            yield from points


def _package(distribution: Any) -> str:
    """Name a package as pip does; its metadata may be damaged."""
    told = (distribution and distribution.metadata) or {}
    return f"{told.get('Name', 'an unknown package')} {told.get('Version', '')}".strip()


def _said(error: BaseException) -> str:
    """Return what an exception says, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
