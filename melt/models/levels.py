"""Choose levels by words: a name, a family such as IQ or Q4, a pattern such as Q4_*, or all."""

from __future__ import annotations

from fnmatch import fnmatchcase

from melt.errors import ModelError
from melt.models.formats import Format
from melt.models.ggml import LEVELS, WITH_IMATRIX, Level, find_level
from melt.models.onnx_levels import LEVELS as ONNX_LEVELS
from melt.models.onnx_levels import OnnxLevel, find_onnx_level

ALL = "all"


def select_levels(text: str, *, imatrix: bool = False) -> tuple[Level, ...]:
    """Return the levels that words separated by commas mean, each once, in the order of the words. Raises ModelError.

    A family is what names begin with; `+imatrix` behind a word, or `imatrix` for all of them, asks for an importance
    matrix: families and patterns then mean those of their levels that can take one.
    """
    chosen: dict[str, Level] = {}
    for word in text.split(","):
        for level in _meant(word.strip(), imatrix=imatrix):
            chosen.setdefault(level.name, level)
    return tuple(chosen.values())


def level_names(format_: Format, text: str, *, imatrix: bool = False) -> tuple[str, ...]:
    """Return the names of the levels that words mean for a model of a format, each once. Raises ModelError."""
    if format_ == "gguf":
        return tuple(level.name for level in select_levels(text, imatrix=imatrix))
    if imatrix:
        raise ModelError("levels of ONNX models have no importance matrix: leave --imatrix out")
    return tuple(
        dict.fromkeys(level.name for word in text.split(",") for level in _meant_of_onnx(word.strip().lower()))
    )


def _meant_of_onnx(word: str) -> list[OnnxLevel]:
    if word == ALL:
        return list(ONNX_LEVELS.values())
    if "*" in word or "?" in word:
        found = [level for name, level in ONNX_LEVELS.items() if fnmatchcase(name, word)]
        if not found:
            raise ModelError(f"no level of ONNX models is called like {word!r}: known are {', '.join(ONNX_LEVELS)}")
        return found
    family = [level for name, level in ONNX_LEVELS.items() if name.startswith(f"{word}-")]
    return family or [find_onnx_level(word)]


def _meant(word: str, *, imatrix: bool) -> list[Level]:
    plain = word.lower().removesuffix(WITH_IMATRIX)
    several = _several(plain.upper())
    if not several:
        level = find_level(word)
        return [level.with_imatrix() if imatrix and level.takes_imatrix else level]
    if plain != word.lower():
        weighed = [level.with_imatrix() for level in several if level.takes_imatrix]
        if not weighed:
            raise ModelError(f"an importance matrix changes no level of {plain!r}: ask for them without {WITH_IMATRIX}")
        return weighed
    return [level.with_imatrix() if imatrix and level.takes_imatrix else level for level in several]


def _several(word: str) -> list[Level]:
    """Return the levels of a pattern or family, none when the word must be the name of one level."""
    if word == ALL.upper():
        return list(LEVELS.values())
    if "*" in word or "?" in word:
        found = [level for name, level in LEVELS.items() if fnmatchcase(name, word)]
        if not found:
            raise ModelError(f"no level is called like {word!r}: known are {', '.join(LEVELS)}")
        return found
    try:
        find_level(word)
    except ModelError:
        return [level for name, level in LEVELS.items() if word and name.startswith(word)]
    return []
