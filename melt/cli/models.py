"""`melt models`: fetch models, list them, say what is in them, make other quantization levels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from melt.cli._bars import progress_bars
from melt.errors import ModelError, UsageError

if TYPE_CHECKING:
    from melt.models.library import Library
    from melt.records import Artifact

NAME = "models"
HELP = "fetch, list, inspect and quantize models"

_MODEL_HELP = "name from the catalogue, path of a GGUF or ONNX file, or hf://owner/repo/file.gguf[@revision]"
_LEVELS_HELP = (
    "levels, separated by commas: q8_0,q4_k_m,iq2_xs, of ONNX models fp16,int8-dynamic,int8-static,int4; families and "
    "patterns (IQ, Q4_*, int8) or all"
)
_CONTEXTS = (2048, 8192)
_LIST_COLUMNS = (
    "name",
    "quant",
    "here",
    "size_bytes",
    "bits_per_weight",
    "n_params",
    "lossy_origin",
    "origin_sha256",
    "recipe",
    "imatrix_sha256",
    "calibration_sha256",
    "n_matrices",
    "fallbacks",
    "tensor_types",
    "same_as",
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
    quantize.add_argument(
        "--imatrix", action="store_true", help="an importance matrix for each level that can take one (q4_k_m+imatrix)"
    )
    quantize.add_argument("--calibration", metavar="FILE", help="text to compute the importance matrix on")
    quantize.add_argument(
        "--inputs",
        metavar="FILE",
        action="append",
        default=[],
        help=".npz of inputs to calibrate int8-static on, arrays by the model's names, samples along a leading axis "
        "(may be repeated)",
    )
    _add_output(quantize, ("table", "md", "json", "jsonl", "csv"))


def run(args: argparse.Namespace) -> int:
    """Do what was asked of the models."""
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


def _add_output(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    parser.add_argument("-o", "--output", choices=formats, default="table", help="form of the result (default: table)")


def _pull(args: argparse.Namespace) -> int:
    # All names are checked before the first model is fetched.
    wanted = [(model, level) for model in args.models for level in (None, *_levels(model, args.quant))]
    for artifact in _resolve_all(wanted):
        print(artifact.path)
    return 0


def _quantize(args: argparse.Namespace) -> int:
    """Make all levels that can be made: one that cannot is a sentence, and nothing to the others."""
    from melt.models.imatrix import DEFAULT_CALIBRATION, calibration_text
    from melt.models.onnx_quantize import calibration_inputs

    levels = _levels(args.model, args.quant, imatrix=args.imatrix)
    _check_calibration(args, levels)
    text = calibration_text(args.calibration) if args.calibration else DEFAULT_CALIBRATION
    inputs = calibration_inputs(args.inputs) if args.inputs else None
    library, made, refused = _library(), [], []
    with progress_bars() as progress:
        for level in levels:
            try:
                made.append(library.resolve(args.model, level, progress=progress, text=text, inputs=inputs))
            except ModelError as error:
                refused.append(error)
    if not made:
        raise refused[0]
    _print_list(made, args.output)
    _print_notes(made)
    for reason in refused:
        print(f"melt: {reason}", file=sys.stderr)
    return 1 if refused else 0


def _check_calibration(args: argparse.Namespace, levels: Sequence[str]) -> None:
    """Raise UsageError for a calibration that no level would look at."""
    from melt.models.formats import format_of
    from melt.models.ggml import find_level
    from melt.models.onnx_levels import find_onnx_level

    is_onnx = format_of(args.model) == "onnx"
    if args.calibration and (is_onnx or not any(find_level(level).imatrix for level in levels)):
        advice = "give --inputs for int8-static" if is_onnx else "add --imatrix"
        raise UsageError(f"no level of {args.quant} has an importance matrix to calibrate: {advice}")
    if args.inputs and not (is_onnx and any(find_onnx_level(level).calibrated for level in levels)):
        raise UsageError(f"no level of {args.quant} is calibrated on --inputs: int8-static of an ONNX model is")


def _print_notes(artifacts: Sequence[Artifact]) -> None:
    """Print each note once, with all the levels that it is about."""
    about: dict[str, list[str]] = {}
    for artifact in artifacts:
        for note in artifact.notes:
            about.setdefault(note, []).append(artifact.quant or "-")
    for note, levels in about.items():
        print(f"melt: {artifacts[0].name} {', '.join(levels)}: {note}", file=sys.stderr)


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


def _levels(model: str, text: str | None, *, imatrix: bool = False) -> Sequence[str]:
    """Split and check the names of a model's levels, before the first one costs minutes. Raises ModelError."""
    from melt.models.formats import format_of
    from melt.models.levels import level_names

    return level_names(format_of(model), text, imatrix=imatrix) if text else ()


def _library() -> Library:
    from melt.models.library import Library

    return Library()


def _resolve_all(wanted: Sequence[tuple[str, str | None]]) -> Iterator[Artifact]:
    library = _library()
    with progress_bars() as progress:
        for model, quant in wanted:
            yield library.resolve(model, quant, progress=progress)


def _print_list(artifacts: Sequence[Artifact], fmt: str, *, catalogue: bool = False) -> None:
    from melt.codec import to_dict
    from melt.models.catalog import catalog
    from melt.models.mixture import twins
    from melt.report.table import render_table, write_rows
    from melt.units import human

    same = twins(artifacts)
    records = [{**to_dict(a), "here": True, "same_as": list(same.get(a.sha256, ()))} for a in artifacts]
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
            _parameters(r["n_params"]),
            r["license"] or "-",
            r["sha256"][:12],
            _fell_back(r),
            _remark(r) if r["here"] else "melt models pull",
        )
        for r in records
    ]
    headers = ("model", "quant", "size", "bits/weight", "parameters", "licence", "sha256", "fell back", "here")
    print(render_table(None, headers, rows, fmt, numeric=(2, 3, 4, 7)), end="")


def _fell_back(record: Mapping[str, Any]) -> str:
    """Say how many matrices are in another type than the level's, because their rows do not fit its blocks."""
    n_fell = sum((record.get("fallbacks") or {}).values())
    return f"{n_fell} of {record.get('n_matrices')}" if n_fell else "-"


def _remark(record: Mapping[str, Any]) -> str:
    said = ["yes"]
    if record.get("lossy_origin"):
        said.append("lossy origin")
    if record["same_as"]:
        said.append(f"same weights as {' and '.join(record['same_as'])}")
    return ", ".join(said)


def _print_json(artifact: Artifact) -> None:
    import json

    from melt.codec import to_dict
    from melt.models.inspect import expected_memory

    contexts = _CONTEXTS if artifact.generative is not False else (0,)
    memory = {str(n_ctx): expected_memory(artifact, n_ctx) for n_ctx in contexts}
    print(json.dumps({**to_dict(artifact), "expected_memory_bytes": memory}, indent=2, ensure_ascii=False))


def _print_artifact(artifact: Artifact, fmt: str) -> None:
    from melt.report.table import render_table
    from melt.units import human

    weights = artifact.weight_bytes or 0
    facts = [
        ("quantization", artifact.quant or "-"),
        ("matrices that fell back", _fallbacks(artifact)),
        ("bits per weight", _bits(artifact.bits_per_weight)),
        ("parameters", _parameters(artifact.n_params)),
        *(_onnx_facts(artifact) if artifact.format == "onnx" else _gguf_facts(artifact)),
        ("file", human(artifact.size_bytes, "bytes")),
        ("weights", human(weights, "bytes")),
        *_memory_facts(artifact),
        ("licence", artifact.license or "-"),
        ("made by", artifact.recipe or "-"),
        ("made from", artifact.origin_sha256 or "-"),
        *_calibration_facts(artifact),
        ("sha256", artifact.sha256),
        ("path", artifact.path),
    ]
    types = [
        (name, human(size, "bytes"), human(size / weights, "ratio")) for name, size in artifact.tensor_types.items()
    ]
    print(render_table(artifact.name, ("what", "value"), facts, fmt))
    if artifact.format == "onnx":
        print(render_table(None, ("tensor", "name", "type", "shape"), list(_tensors(artifact)), fmt))
        operators = [(name, str(n)) for name, n in artifact.operators.items()]
        print(render_table(None, ("operator", "nodes"), operators, fmt, numeric=(1,)))
    print(render_table(None, ("tensor type", "size", "share"), types, fmt, numeric=(1, 2)), end="")
    if artifact.notes:
        print()
    for note in artifact.notes:
        print(f"- {note}" if fmt == "md" else f"note: {note}")


def _gguf_facts(artifact: Artifact) -> Iterator[tuple[str, str]]:
    yield "architecture", artifact.architecture or "-"
    yield "layers", _or_dash(artifact.n_layers)
    yield "trained context", _or_dash(artifact.n_ctx_train)


def _onnx_facts(artifact: Artifact) -> Iterator[tuple[str, str]]:
    yield "written by", artifact.producer or "-"
    yield "operator sets", ", ".join(f"{domain} {version}" for domain, version in artifact.opsets.items())
    yield "generates tokens", "yes, with a KV cache" if artifact.generative else "no"
    if artifact.generative:
        yield "layers", _or_dash(artifact.n_layers)
        yield "vocabulary", _or_dash(artifact.n_vocab)
    if artifact.dims:
        yield "usual dimensions", ", ".join(f"{name}={length}" for name, length in artifact.dims.items())


def _tensors(artifact: Artifact) -> Iterator[tuple[str, str, str, str]]:
    for what, tensors in (("input", artifact.inputs), ("output", artifact.outputs)):
        for tensor in tensors:
            shape = "?" if tensor.shape is None else f"[{', '.join(map(str, tensor.shape))}]"
            yield what, tensor.name, tensor.type, shape


def _memory_facts(artifact: Artifact) -> Iterator[tuple[str, str]]:
    from melt.models.inspect import expected_memory
    from melt.models.onnx_describe import cache_per_token
    from melt.units import human

    if artifact.generative is False:
        yield "expected memory, without activations", human(expected_memory(artifact, 0), "bytes")
        return
    cache_type, cached = cache_per_token(artifact)
    yield f"KV cache per token ({cache_type})", human(cached, "bytes")
    for n_ctx in _CONTEXTS:
        yield f"expected memory, {n_ctx} tokens", human(expected_memory(artifact, n_ctx), "bytes")


def _calibration_facts(artifact: Artifact) -> Iterator[tuple[str, str]]:
    if artifact.format == "onnx":
        yield "calibrated on", artifact.calibration_sha256 or "-"
        return
    yield "importance matrix", artifact.imatrix_sha256 or "-"
    yield "calibration text", artifact.calibration_sha256 or "-"


def _fallbacks(artifact: Artifact) -> str:
    if not artifact.fallbacks:
        return "-"
    types = ", ".join(f"{n} to {name}" for name, n in artifact.fallbacks.items())
    return f"{sum(artifact.fallbacks.values())} of {artifact.n_matrices}: {types}"


def _bits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _parameters(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.1f} M" if value >= 100_000 else f"{value / 1e3:.1f} k" if value >= 1000 else str(value)


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
