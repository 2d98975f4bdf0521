"""`melt export`: runs for other programs, as csv, json, jsonl, Parquet, a Perfetto trace or llama-bench's JSON."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from melt.cli._left_out import left_out_by, say_left_out, without_profiles
from melt.cli._output import text_output
from melt.cli._storeargs import add_selection_arguments, add_store_argument, open_store, selection_from_args

if TYPE_CHECKING:
    from melt.store.selection import Selection
    from melt.store.store import Store
    from melt.traces import RunBundle

NAME = "export"
HELP = "write runs as csv, json, jsonl, parquet, a Perfetto trace or llama-bench's JSON"
FORMATS = ("csv", "json", "jsonl", "parquet", "perfetto", "llama-bench")


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
        " a file each; perfetto: one run, its channels, phases, tokens and operators over time, for ui.perfetto.dev;"
        " llama-bench: what `llama-bench -o json` prints (default: json)",
    )
    parser.add_argument(
        "--perfetto", dest="format", action="store_const", const="perfetto", help="the same as -f perfetto"
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
        if args.format == "perfetto":
            _perfetto(store, selection, args.output)
            return 0
        write = {"csv": _csv, "json": _json, "jsonl": _jsonl, "llama-bench": _llama_bench}[args.format]
        with text_output(args.output) as out:
            write(store, selection, out)
    return 0


def _perfetto(store: Store, selection: Selection, path: Path | None) -> None:
    from melt.analysis import operators
    from melt.errors import UsageError
    from melt.report.perfetto import perfetto_trace
    from melt.store.files import whole_file
    from melt.telemetry.meters.recording import DOCUMENT

    runs = store.run_ids(selection)
    if len(runs) != 1:
        raise UsageError(f"a Perfetto trace is of one run, and {len(runs)} are selected: name one, or last")
    if path is None and sys.stdout.isatty():
        raise UsageError("a Perfetto trace is binary: name a file with -o FILE")
    meter = json.loads(store.attachment(runs[0], DOCUMENT)) if DOCUMENT in store.attachments(runs[0]) else None
    profiled = operators.DOCUMENT in store.attachments(runs[0])
    profiler = operators.read_document(store.attachment(runs[0], operators.DOCUMENT)) if profiled else None
    traces = (store.trace(runs[0], collector) for collector in store.collectors(runs[0]))
    with nullcontext(sys.stdout.buffer) if path is None else whole_file(path) as out:
        for piece in perfetto_trace(store.bundle(runs[0]), traces, meter, profiler):
            out.write(piece)


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
    from melt.codec import to_dict

    parts = {name: to_dict(getattr(bundle, name)) for name in ("start", "stop", "windows", "metrics")}
    return json.dumps(parts, allow_nan=False, ensure_ascii=False)


def _llama_bench(store: Store, selection: Selection, out: TextIO) -> None:
    from melt.records import Verdict
    from melt.store.llama_bench import llama_bench_tests

    tests, left_out, doubtful = [], 0, 0
    for bundle in store.each_bundle(without_profiles(selection, store)):
        found = llama_bench_tests(bundle)
        tests += found
        left_out += not found
        doubtful += bool(found) and bundle.stop.verdict is not Verdict.VALID
    out.write(json.dumps(tests, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    if left_out:
        print(f"melt: left out because they measured nothing llama-bench knows: {left_out}", file=sys.stderr)
    if doubtful:
        print(f"melt: not valid among these runs: {doubtful}; leave them out with --only-valid", file=sys.stderr)
