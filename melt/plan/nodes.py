"""YAML as a tree of nodes that know their lines, and the list of problems found in it.

PyYAML composes the tree; it never builds objects. What could hurt (cycles, alias bombs, endless nesting) is refused
before, from the flat stream of events.
"""

from __future__ import annotations

import yaml

from melt.errors import PlanError

MAX_CHARACTERS = 200_000
_MAX_DEPTH = 32
_MAX_NODES = 100_000
_MAX_PROBLEMS = 20


class Problems:
    """What is wrong in a file, collected so that a person sees all of it at once."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self._found: list[tuple[int, str]] = []

    def add(self, node: yaml.Node, problem: str) -> None:
        """Note a problem at the line where `node` begins."""
        self._found.append((node.start_mark.line + 1, problem))

    def raise_if_any(self) -> None:
        """Raise one PlanError with every problem, a line each, in the order of the file."""
        if not self._found:
            return
        found = sorted(dict.fromkeys(self._found), key=lambda item: item[0])
        (line, first), rest = found[0], found[1:_MAX_PROBLEMS]
        lines = [first, *(f"{self.filename}:{number}: {problem}" for number, problem in rest)]
        if len(found) > _MAX_PROBLEMS:
            lines.append(f"and {len(found) - _MAX_PROBLEMS} more problems")
        raise PlanError(f"{self.filename}:{line}", "\n".join(lines))


def compose(text: str, filename: str) -> yaml.Node:
    """Read the one YAML document in `text`. Raises PlanError with the line for everything that is not that."""
    if len(text) > MAX_CHARACTERS:
        raise PlanError(f"{filename}:1", f"the file has {len(text)} characters, a plan at most {MAX_CHARACTERS}")
    line = 1
    try:
        inspector = _Inspector(filename)
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = _line(event)
            inspector.see(event)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character[:1])
        raise PlanError(f"{filename}:{line}", f"the character U+{code:04X} may not stand in YAML") from error
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, filename) from error
    except (ValueError, OverflowError) as error:
        # PyYAML lets Python's own errors through for some escapes ("\UFFFFFFFF") and version numbers.
        raise PlanError(f"{filename}:{line}", "not YAML from here on: an escape or a number is out of range") from error
    if node is None:
        raise PlanError(f"{filename}:1", "the file is empty: a plan needs at least 'models' and 'workloads'")
    return node


def _not_yaml(error: yaml.MarkedYAMLError, filename: str) -> PlanError:
    mark = error.problem_mark or error.context_mark
    where = f"{filename}:{mark.line + 1 if mark else 1}"
    problem = " ".join((error.problem or "unreadable").split())
    if r"'\t'" in problem:
        return PlanError(where, "a tab stands where YAML wants spaces: indent with spaces")
    context = " ".join((error.context or "").split())
    return PlanError(where, f"not YAML: {problem}" + (f" ({context})" if context else ""))


class _Inspector:
    """Watches the events of a YAML stream go by and refuses what a plan never needs."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._documents = 0
        self._open: list[tuple[str | None, int]] = []
        self._anchored: dict[str, int] = {}
        self._size = 0

    def see(self, event: yaml.Event) -> None:
        """Take the next event. `_size` counts nodes as if every alias were written out."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._refuse(event, "a second document begins here (---): write one plan a file")
        elif isinstance(event, yaml.AliasEvent):
            self._see_alias(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size_before = self._open.pop()
            if anchor is not None:
                self._anchored[anchor] = self._size - size_before
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            self._see_node(event)

    def _see_node(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None:
            raise self._refuse(event, "YAML tags (!…) have no meaning in a plan: leave this one out")
        self._grow(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                self._anchored[event.anchor] = 1
            return
        if len(self._open) >= _MAX_DEPTH:
            raise self._refuse(event, f"nested more than {_MAX_DEPTH} levels deep")
        self._open.append((event.anchor, self._size - 1))

    def _see_alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor
        if any(anchor == name for anchor, _ in self._open):
            raise self._refuse(event, f"the alias *{name} stands inside what it repeats: that never ends")
        self._grow(event, self._anchored.get(name or "", 0))

    def _grow(self, event: yaml.Event, size: int) -> None:
        self._size += size
        if self._size > _MAX_NODES:
            raise self._refuse(event, f"with its aliases written out the plan has over {_MAX_NODES} values")

    def _refuse(self, event: yaml.Event, problem: str) -> PlanError:
        return PlanError(f"{self._filename}:{_line(event)}", problem)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
