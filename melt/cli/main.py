"""The `melt` command: finds the verb, runs it, and turns melt's own errors into one sentence and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from melt import __version__
from melt.errors import MeltError

VERBS = (
    "run",
    "resume",
    "compare",
    "regress",
    "runs",
    "sweeps",
    "show",
    "report",
    "export",
    "query",
    "import_",
    "paper",
    "models",
    "quality",
    "quants",
    "build",
    "provision",
    "devices",
    "doctor",
    "selftest",
    "store",
)

_DESCRIPTION = "Benchmark language models on the device: throughput, latency, memory, heat and power."
_EPILOG = """\
examples:
  melt run --model smollm2-135m-instruct --quant q8_0,q4_0 -p 512 -n 128
  melt run plans/demo.yaml
  melt compare --by quant

exit status: 0 fine, 1 failed runs or a regression, 2 wrong usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        parser = _parser(words)
        args = parser.parse_args(words)
        if args.verb is None:
            parser.print_help()
            return 2
        status: int = args.run(args)
        sys.stdout.flush()
    except MeltError as error:
        print(f"melt: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("melt: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output went away (`melt runs | head`): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser; only the verb that is called gets its flags, so that `melt --help` stays quick."""
    parser = argparse.ArgumentParser(
        prog="melt",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"melt {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    called = next((word for word in words if not word.startswith("-")), None)
    for name in VERBS:
        verb = importlib.import_module(f"melt.cli.{name}")
        sub = verbs.add_parser(
            verb.NAME,
            help=verb.HELP,
            description=verb.HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if called == verb.NAME:
            verb.configure(sub)
            sub.set_defaults(run=verb.run)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
