"""`melt build`: build ahead of time what devices need, which a run would otherwise build when it is first wanted."""

from __future__ import annotations

import argparse
import json
import sys

NAME = "build"
HELP = "build the native runner for phones and boards"

_EPILOG = """\
CPU variants of android-arm64 and linux-arm64, which are the same static binaries:
  v8.0   any 64-bit Arm CPU (Cortex-A53, A72, A73)
  v8.2   with dot products and half-precision arithmetic (Cortex-A55, A75, A76 and later)
  i8mm   with 8-bit matrix products too (Cortex-A510, A710, X2 and later)
A run chooses by the features that all CPUs of the device have. `--ndk` builds for Android with GPU back ends:
run such a binary with `--engine llama.cpp-native:PATH`.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what can be built."""
    from melt.targets.runners import TARGETS

    verbs = parser.add_subparsers(dest="build_verb", metavar="WHAT", required=True, title="what to build")
    runner = verbs.add_parser(
        "runner",
        help="llama.cpp as one program per CPU variant, and print where they lie",
        description="Build llama.cpp's native runner from the source of the pinned llama-cpp-python.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    runner.add_argument("--target", choices=TARGETS, default="android-arm64", help="default: %(default)s")
    runner.add_argument("--variant", metavar="NAMES", help="CPU variants, separated by commas (default: all)")
    runner.add_argument("--source", metavar="PATH", help="the package's archive, or a folder with another llama.cpp")
    runner.add_argument("--ndk", metavar="DIR", help="build with this Android NDK instead of zig")
    runner.add_argument("--backend", metavar="NAMES", help="with --ndk: opencl, vulkan, or both separated by a comma")
    runner.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Build the runner; paths go to stdout, progress to stderr."""
    from melt.targets.runners import build

    binaries = build(
        "llama_native",
        lambda text: print(f"melt: {text}", file=sys.stderr),
        target=args.target,
        variants=_words(args.variant),
        source=args.source,
        ndk=args.ndk,
        backends=_words(args.backend),
    )
    if args.output == "json":
        print(json.dumps([{"target": args.target, "variant": v, "path": str(path)} for v, path in binaries.items()]))
    else:
        print(*binaries.values(), sep="\n")
    return 0


def _words(text: str | None) -> list[str]:
    return text.split(",") if text else []
