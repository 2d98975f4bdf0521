"""`melt models`: fetch models, list them, say what is in them, make other quantization levels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.models.files import Progress
    from melt.models.library import Library
    from melt.records import Artifact

NAME = "models"
HELP = "fetch, list, inspect and quantize models"

_MODEL_HELP = "name from the catalogue, path of a GGUF file, or hf://owner/repo/file.gguf[@revision]"
_LEVELS_HELP = "levels, separated by commas: q8_0,q4_k_m"
_CONTEXTS = (2048, 8192)
_LIST_COLUMNS = (
    "name",
    "quant",
    "here",
    "size_bytes",
    "bits_per_weight",
    "n_params",
    "lossy_origin",
    "license",
    "sha256",
    "path",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of the models."""
    verbs = parser.add_subparsers(dest="models_verb", metavar="VERB", required=True, title="verbs")

    def verb(name: str, text: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(act=act)
        return sub

    pull = verb("pull", "fetch models to this machine, and print where they lie", _pull)
    pull.add_argument("models", metavar="MODEL", nargs="+", help=_MODEL_HELP)
    pull.add_argument("-q", "--quant", metavar="LEVELS", help=f"make these {_LEVELS_HELP} too")

    listing = verb("ls", "list the models of the catalogue and the levels made so far", _list)
    _add_output(listing, ("table", "md", "json", "jsonl", "csv"))

    inspect = verb("inspect", "say what a model file holds: types, bits per weight, memory it will take", _inspect)
    inspect.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    inspect.add_argument("-q", "--quant", metavar="LEVEL", help="the model at this level, made when missing")
    _add_output(inspect, ("table", "md", "json"))

    quantize = verb("quantize", "make quantization levels of a model, and print where they lie", _quantize)
    quantize.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    quantize.add_argument("-q", "--quant", metavar="LEVELS", required=True, help=_LEVELS_HELP)
    _add_output(quantize, ("table", "md", "json", "jsonl", "csv"))


def run(args: argparse.Namespace) -> int:
    """Do what was asked of the models."""
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


def _add_output(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    parser.add_argument("-o", "--output", choices=formats, default="table", help="form of the result (default: table)")


def _pull(args: argparse.Namespace) -> int:
    levels = [None, *_levels(args.quant)]
    for artifact in _resolve_all([(model, level) for model in args.models for level in levels]):
        print(artifact.path)
    return 0


def _quantize(args: argparse.Namespace) -> int:
    made = list(_resolve_all([(args.model, level) for level in _levels(args.quant)]))
    _print_list(made, args.output)
    for artifact in made:
        for note in artifact.notes:
            print(f"melt: {artifact.name} {artifact.quant}: {note}", file=sys.stderr)
    return 0


def _list(args: argparse.Namespace) -> int:
    _print_list(_library().list(), args.output, catalogue=True)
    return 0


def _inspect(args: argparse.Namespace) -> int:
    (artifact,) = _resolve_all([(args.model, args.quant)])
    if args.output == "json":
        _print_json(artifact)
    else:
        _print_artifact(artifact, args.output)
    return 0


def _levels(text: str | None) -> list[str]:
    """Split and check the names of levels, before the first one costs minutes. Raises ModelError."""
    from melt.models.ggml import find_level

    return [find_level(word).name for word in text.split(",")] if text else []


def _library() -> Library:
    from melt.models.library import Library

    return Library()


def _resolve_all(wanted: Sequence[tuple[str, str | None]]) -> Iterator[Artifact]:
    library = _library()
    with _progress() as progress:
        for model, quant in wanted:
            yield library.resolve(model, quant, progress=progress)


def _print_list(artifacts: Sequence[Artifact], fmt: str, *, catalogue: bool = False) -> None:
    from melt.codec import to_dict
    from melt.models.catalog import catalog
    from melt.report.table import render_table, write_rows
    from melt.units import human

    records = [{**to_dict(artifact), "here": True} for artifact in artifacts]
    if catalogue:
        here = {artifact.sha256 for artifact in artifacts}
        records += [{**to_dict(e), "here": False} for e in catalog().values() if e.sha256 not in here]
        records.sort(key=lambda r: r["name"])
    if fmt not in ("table", "md"):
        print(write_rows(_LIST_COLUMNS, records, fmt), end="")
        return
    rows = [
        (
            r["name"],
            r["quant"] or "-",
            human(r["size_bytes"], "bytes"),
            _bits(r.get("bits_per_weight")),
            _millions(r["n_params"]),
            r["license"] or "-",
            r["sha256"][:12],
            ("yes, lossy origin" if r.get("lossy_origin") else "yes") if r["here"] else "melt models pull",
        )
        for r in records
    ]
    headers = ("model", "quant", "size", "bits/weight", "parameters", "licence", "sha256", "here")
    print(render_table(None, headers, rows, fmt, numeric=(2, 3, 4)), end="")


def _print_json(artifact: Artifact) -> None:
    import json

    from melt.codec import to_dict
    from melt.models.inspect import expected_memory

    memory = {str(n_ctx): expected_memory(artifact, n_ctx) for n_ctx in _CONTEXTS}
    print(json.dumps({**to_dict(artifact), "expected_memory_bytes": memory}, indent=2, ensure_ascii=False))


def _print_artifact(artifact: Artifact, fmt: str) -> None:
    from melt.models.inspect import expected_memory
    from melt.report.table import render_table
    from melt.units import human

    weights = artifact.weight_bytes or 0
    facts = [
        ("quantization", artifact.quant or "-"),
        ("bits per weight", _bits(artifact.bits_per_weight)),
        ("parameters", _millions(artifact.n_params)),
        ("architecture", artifact.architecture or "-"),
        ("layers", _or_dash(artifact.n_layers)),
        ("trained context", _or_dash(artifact.n_ctx_train)),
        ("file", human(artifact.size_bytes, "bytes")),
        ("weights", human(weights, "bytes")),
        ("KV cache per token (f16)", human(artifact.kv_bytes_per_token, "bytes")),
        *((f"expected memory, {n} tokens", human(expected_memory(artifact, n), "bytes")) for n in _CONTEXTS),
        ("licence", artifact.license or "-"),
        ("made by", artifact.recipe or "-"),
        ("made from", artifact.origin_sha256 or "-"),
        ("sha256", artifact.sha256),
        ("path", artifact.path),
    ]
    types = [
        (name, human(size, "bytes"), human(size / weights, "ratio")) for name, size in artifact.tensor_types.items()
    ]
    print(render_table(artifact.name, ("what", "value"), facts, fmt))
    print(render_table(None, ("tensor type", "size", "share"), types, fmt, numeric=(1, 2)), end="")
    if artifact.notes:
        print()
    for note in artifact.notes:
        print(f"- {note}" if fmt == "md" else f"note: {note}")


def _bits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _millions(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.1f} M"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show on stderr what takes time: a bar on a terminal, elsewhere one line for each thing begun."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    console = Console(stderr=True)
    seen: dict[str, TaskID] = {}
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:

        def progress(what: str, done: int, total: int) -> None:
            if what not in seen:
                seen[what] = bars.add_task(escape(what), total=None)
                if not console.is_terminal:
                    print(f"melt: {what}", file=sys.stderr)
            bars.update(seen[what], completed=done, total=total or None)

        yield progress
