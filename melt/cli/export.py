"""`melt export`: runs for other programs, as csv, json, jsonl, Parquet or llama-bench's JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from melt.cli._left_out import left_out_by, say_left_out
from melt.cli._storeargs import add_selection_arguments, add_store_argument, open_store, selection_from_args

if TYPE_CHECKING:
    from melt.store.selection import Selection
    from melt.store.store import Store
    from melt.traces import RunBundle

NAME = "export"
HELP = "write runs as csv, json, jsonl, parquet or llama-bench's JSON"
FORMATS = ("csv", "json", "jsonl", "parquet", "llama-bench")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument(
        "runs", metavar="RUN", nargs="*", help='ids, beginnings of ids, or "last"; all runs without any'
    )
    parser.add_argument(
        "-f",
        "--format",
        choices=FORMATS,
        default="json",
        help="csv: a row per figure and repetition; json, jsonl: the whole documents; parquet: the store's tables,"
        " a file each; llama-bench: what `llama-bench -o json` prints (default: json)",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="where to write (default: stdout); a folder for parquet"
    )
    add_store_argument(parser)
    add_selection_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write what was selected. Raises UsageError, StoreError."""
    from melt.errors import UsageError

    with open_store(args) as store:
        selection = selection_from_args(args, store, runs=tuple(args.runs))
        say_left_out(left_out_by(selection, store))
        if args.format == "parquet":
            from melt.store.mirror import write_mirror

            if args.output is None:
                raise UsageError("parquet goes into a folder: name it with -o DIR")
            for path in write_mirror(store, args.output, selection):
                print(f"melt: wrote {path}", file=sys.stderr)
            return 0
        write = {"csv": _csv, "json": _json, "jsonl": _jsonl, "llama-bench": _llama_bench}[args.format]
        with _output(args.output) as out:
            write(store, selection, out)
    return 0


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Give stdout, or a file that appears whole or not at all. Raises StoreError."""
    from melt.store.files import store_error

    if path is None:
        yield sys.stdout
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        try:
            with temporary.open("w", encoding="utf-8", newline="") as out:
                yield out
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise store_error("write", path, error) from error


def _csv(store: Store, selection: Selection, out: TextIO) -> None:
    import csv

    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(store.FIGURE_COLUMNS)
    writer.writerows(store.figures(selection))


def _json(store: Store, selection: Selection, out: TextIO) -> None:
    out.write("[")
    for i, bundle in enumerate(store.each_bundle(selection)):
        out.write(("," if i else "") + "\n" + _document(bundle))
    out.write("\n]\n")


def _jsonl(store: Store, selection: Selection, out: TextIO) -> None:
    for bundle in store.each_bundle(selection):
        out.write(_document(bundle) + "\n")


def _document(bundle: RunBundle) -> str:
    import json

    from melt.codec import to_dict

    parts = {name: to_dict(getattr(bundle, name)) for name in ("start", "stop", "windows", "metrics")}
    return json.dumps(parts, allow_nan=False, ensure_ascii=False)


def _llama_bench(store: Store, selection: Selection, out: TextIO) -> None:
    import json

    from melt.records import Verdict
    from melt.store.llama_bench import llama_bench_tests

    tests, left_out, doubtful = [], 0, 0
    for bundle in store.each_bundle(selection):
        found = llama_bench_tests(bundle)
        tests += found
        left_out += not found
        doubtful += bool(found) and bundle.stop.verdict is not Verdict.VALID
    out.write(json.dumps(tests, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    if left_out:
        print(f"melt: left out because they measured nothing llama-bench knows: {left_out}", file=sys.stderr)
    if doubtful:
        print(f"melt: not valid among these runs: {doubtful}; leave them out with --only-valid", file=sys.stderr)
