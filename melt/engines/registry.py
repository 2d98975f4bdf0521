"""The engines that melt knows, by the name a plan uses. An engine's module is imported when it is first asked for.

Other packages add engines by entry points of the group `melt.engines`: a function or class that is called with what a
user wrote behind `NAME:` ("" for the bare name) and gives an Engine.
"""

from __future__ import annotations

import difflib
from importlib import import_module

from melt import plugins
from melt.engines.added import AddedEngine
from melt.engines.base import Engine
from melt.errors import EngineError, UsageError

_ENGINES = {
    "llama.cpp": ("melt.engines.llama_cpp", "LlamaCpp"),
    "llama.cpp-native": ("melt.engines.llama_native", "LlamaNative"),
    "onnxruntime": ("melt.engines.onnx_runtime", "OnnxRuntime"),
}
_WITH_PATH = {
    "llama-bench": ("melt.engines.llama_bench", "LlamaBench"),
    "llama.cpp-native": ("melt.engines.llama_native", "LlamaNative"),
}
"""Engines that run a program of the user's, written `llama-bench:PATH`."""


def names() -> tuple[str, ...]:
    """Return the names of melt's own engines that are whole without a path, sorted."""
    return tuple(sorted(_ENGINES))


def reserved() -> frozenset[str]:
    """Return the names that no plug-in can have."""
    return frozenset((*_ENGINES, *_WITH_PATH))


def get(name: str) -> Engine:
    """Return the engine called `name`. Raises UsageError: the nearest name, or what is wrong with a plug-in."""
    kind, colon, path = name.partition(":")
    if kind in _WITH_PATH and (colon or kind not in _ENGINES):
        if not path:
            raise UsageError(f"engine '{name}' needs the program it is to run: {kind}:PATH")
        module, class_name = _WITH_PATH[kind]
        wrapped: Engine = getattr(import_module(module), class_name)(path)
        return wrapped
    if name not in _ENGINES:
        plugin = None if kind in _ENGINES else plugins.find(plugins.ENGINES, kind)
        if plugin is not None:
            added: Engine = plugin.make(Engine, EngineError, path, again=("for_device",), by=AddedEngine)
            return added
        known = sorted({*_ENGINES, *(other.name for other in plugins.plugins(plugins.ENGINES))})
        with_path = [f"{other}:PATH" for other in _WITH_PATH if other not in _ENGINES]
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"melt knows {', '.join([*known, *with_path])}"
        raise UsageError(f"unknown engine '{name}': {hint}")
    module, class_name = _ENGINES[name]
    engine: Engine = getattr(import_module(module), class_name)()
    return engine
