"""The engines that melt knows, by the name a plan uses. An engine's module is imported when it is first asked for."""

from __future__ import annotations

import difflib
from importlib import import_module

from melt.engines.base import Engine
from melt.errors import UsageError

_ENGINES = {
    "llama.cpp": ("melt.engines.llama_cpp", "LlamaCpp"),
    "llama.cpp-native": ("melt.engines.llama_native", "LlamaNative"),
}
_WITH_PATH = {
    "llama-bench": ("melt.engines.llama_bench", "LlamaBench"),
    "llama.cpp-native": ("melt.engines.llama_native", "LlamaNative"),
}
"""Engines that run a program of the user's, written `llama-bench:PATH`."""


def names() -> tuple[str, ...]:
    """Return the names of every engine, sorted."""
    return tuple(sorted(_ENGINES))


def get(name: str) -> Engine:
    """Return the engine called `name`. Raises UsageError with the nearest name."""
    kind, colon, path = name.partition(":")
    if kind in _WITH_PATH and (colon or kind not in _ENGINES):
        if not path:
            raise UsageError(f"engine '{name}' needs the program it is to run: {kind}:PATH")
        module, class_name = _WITH_PATH[kind]
        wrapped: Engine = getattr(import_module(module), class_name)(path)
        return wrapped
    if name not in _ENGINES:
        close = difflib.get_close_matches(name.lower(), _ENGINES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"melt knows {', '.join(names())}"
        raise UsageError(f"unknown engine '{name}': {hint}")
    module, class_name = _ENGINES[name]
    engine: Engine = getattr(import_module(module), class_name)()
    return engine
