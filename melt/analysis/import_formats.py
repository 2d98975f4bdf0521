"""Results of other programs: which program a text is from, and its entries. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from melt.analysis import import_llama_bench, import_mlperf, import_optimum
from melt.analysis.import_json import NotImportableError, objects
from melt.analysis.imported import Entry

READERS: Mapping[str, Callable[[str], list[Entry]]] = MappingProxyType(
    {
        import_llama_bench.TOOL: import_llama_bench.entries,
        import_mlperf.TOOL: import_mlperf.entries,
        import_optimum.TOOL: import_optimum.entries,
    }
)
"""Programs whose results can be imported."""


def read_entries(text: str, file: str, tool: str | None = None) -> tuple[str, list[Entry]]:
    """Return the program and what it measured. Raises NotImportableError, which names file and line."""
    try:
        tool = tool or _tool_of(text)
        found = READERS[tool](text)
    except NotImportableError as error:
        raise NotImportableError(f"{file}:{error}") from None
    if not found:
        raise NotImportableError(f"{file}:1: {tool} has left no result here")
    return tool, found


def _tool_of(text: str) -> str:
    stripped = text.lstrip()
    if not stripped:
        raise NotImportableError("1: the file is empty")
    if stripped.startswith(("[", "{")):
        _, first = next(objects(text), (1, {}))
        if all(name in first for name in import_llama_bench.COUNTS):
            return import_llama_bench.TOOL
        if import_mlperf.is_one(first):
            return import_mlperf.TOOL
        if import_optimum.is_one(first):
            return import_optimum.TOOL
    elif all(name in text for name in import_llama_bench.COUNTS):
        return import_llama_bench.TOOL
    raise NotImportableError(f"1: not known as results of {', '.join(READERS)}; --format says which it is")
