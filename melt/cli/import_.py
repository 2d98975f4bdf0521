"""`melt import`: brings in what other programs measured, so that a team's history is not lost."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from melt.cli._storeargs import add_store_argument, store_root

if TYPE_CHECKING:
    from melt.traces import RunBundle

NAME = "import"
HELP = "bring in results of llama-bench, MLPerf Mobile or optimum-benchmark"
FORMATS = ("llama-bench", "mlperf-mobile", "optimum-benchmark")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="json, jsonl, csv or sql, as it was written"
    )
    parser.add_argument("--format", choices=FORMATS, help="of which program (default: the file's content tells)")
    parser.add_argument("--device", metavar="NAME", help="what to call the device (default: as the file does)")
    parser.add_argument("--tag", metavar="TAG", action="append", default=[], help="tag the runs; may be repeated")
    add_store_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Read all files, then publish what they have. Raises UsageError, StoreError."""
    from melt.store.store import Store

    # Everything is read before anything is kept: a bad file leaves no half of an import behind.
    found = [(path, _read(path, args.format, args.device)) for path in args.files]
    with Store.open(store_root(args)) as store:
        for path, (tool, bundles) in found:
            new = [bundle for bundle in bundles if not store.is_published(bundle.start.spec.run_id)]
            for bundle in new:
                store.publish(bundle)
            for bundle in bundles if args.tag else ():
                store.tag(bundle.start.spec.run_id, args.tag)
            known = len(bundles) - len(new)
            also = f", {known} known already" if known else ""
            print(f"melt: {path}: {len(new)} of {tool} imported{also}", file=sys.stderr)
            for bundle in new:
                print(bundle.start.spec.run_id)
    return 0


def _read(path: Path, tool: str | None, device: str | None) -> tuple[str, list[RunBundle]]:
    from melt.analysis.import_formats import read_entries
    from melt.analysis.import_json import NotImportableError
    from melt.analysis.imported import Source, bundles_of

    try:
        data, written_utc_ns = path.read_bytes(), path.stat().st_mtime_ns
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise NotImportableError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotImportableError(f"{path}:{line}: not a text in UTF-8") from None
    tool, entries = read_entries(text, str(path), tool)
    source = Source(tool=tool, file=path.name, sha256=hashlib.sha256(data).hexdigest(), written_utc_ns=written_utc_ns)
    return tool, bundles_of(entries, source, device)
