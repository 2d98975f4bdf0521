"""The flags that say what to run, for every verb that makes a plan; and the reading of plan and prompt files."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melt.cli._grid import HELP, load_grid
from melt.cli._inputs import inputs_beside
from melt.errors import UsageError

if TYPE_CHECKING:
    from melt.plan.model import Plan

_MAX_BYTES = 16 * 2**20

# (flags, field of records.Settings, placeholder, help)
_SETTINGS: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (("-t", "--threads"), "threads", "N", "threads for decode, of ONNX Runtime within a node (intra-op)"),
    (("-tb", "--threads-batch"), "threads_batch", "N", "threads for prefill"),
    (("-b", "--n-batch", "--batch-size"), "n_batch", "N", "tokens of a logical batch"),
    (("-ub", "--n-ubatch", "--ubatch-size"), "n_ubatch", "N", "tokens of a physical batch"),
    (("-ctk", "--cache-type-k"), "cache_type_k", "TYPE", "type of the KV cache's keys (f16, q8_0, ...)"),
    (("-ctv", "--cache-type-v"), "cache_type_v", "TYPE", "type of the KV cache's values"),
    (("-fa", "--flash-attn"), "flash_attn", "WORD", "flash attention: auto, on or off"),
    (("-ngl", "--n-gpu-layers"), "n_gpu_layers", "N", "layers on the GPU; -1: all"),
    (("-mmp", "--mmap"), "mmap", "BOOL", "map the model file instead of reading it"),
    (("--page-cache",), "page_cache", "WORD", "load the model from a warm or a cold page cache"),
    (("--seed",), "seed", "N", "seed of the sampler and of made-up prompts"),
    (("--temperature",), "temperature", "X", "sampling temperature; 0 is greedy"),
    (("--ignore-eos",), "ignore_eos", "BOOL", "generate the full length whatever the model says"),
    (("--providers",), "providers", "NAMES", "execution providers of ONNX Runtime by preference, such as cuda+cpu"),
    (("--graph-optimization",), "graph_optimization", "WORD", "of ONNX Runtime: disabled, basic, extended or all"),
    (("--arena",), "arena", "BOOL", "let ONNX Runtime keep memory between requests"),
    (("--io-binding",), "io_binding", "BOOL", "bind inputs and outputs of ONNX Runtime once, not at each request"),
    (("--inter-op-threads",), "inter_op_threads", "N", "threads of ONNX Runtime for nodes side by side"),
    (("--affinity",), "affinity", "CPUS", "CPUs for the runner, such as 0-3,6; repeat the flag to try several"),
    (("--timeout",), "timeout_s", "TIME", "longest time for a run, such as 10m"),
    (("--trip",), "trip_c", "CELSIUS", "end a run above this temperature"),
)


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add PLAN.yaml and the flags that make a plan or change one."""
    parser.add_argument("plan_file", nargs="?", metavar="PLAN.yaml", help="what to run; flags replace parts of it")
    what = parser.add_argument_group(
        "what to run",
        "Lists by comma or by repeating a flag; -p -n -d -t also take ranges: 1-4, 128-512+128, 128-1024*2.",
    )
    _several(what, ("--device",), "devices", "NAME", "device (default: local, this machine), or model:NAME:COUNT")
    _several(
        what, ("-m", "--model"), "models", "MODEL", "name from the catalogue, path of a file, or hf://owner/repo/file"
    )
    _several(
        what, ("-q", "--quant"), "quants", "TYPE", "quantization, such as q8_0,q4_k_m (default: the file as it is)"
    )
    _several(what, ("--engine",), "engines", "NAME", "inference engine (default: by the model's format)")
    _several(what, ("-p", "--n-prompt"), "n_prompt", "N", "prefill N tokens: ppN (default with nothing else: 512)")
    _several(what, ("-n", "--n-gen"), "n_gen", "N", "decode N tokens: tgN (default with nothing else: 128)")
    _several(what, ("-pg",), "prompt_gen", "PP,TG", "prefill, then decode in one request: ppN+tgN")
    _several(what, ("-d", "--n-depth"), "depth", "N", "tokens in the context beforehand: @ dN")
    _several(
        what,
        ("-w", "--workload"),
        "workloads",
        "WORD",
        "workload, such as 'pp128+tg64 for 60s', questions.jsonl+tg64 or 'infer50 batch=1'",
    )
    repeat = parser.add_argument_group("how often")
    _single(repeat, ("-r", "--repetitions"), "repetitions", "N", "measured repetitions in a run (default: 5)")
    _single(repeat, ("--warmup",), "warmup", "N", "repetitions before them that do not count (default: 1)")
    _single(repeat, ("--sessions",), "sessions", "N", "runs of each cell, a process of its own each (default: 1)")
    _single(repeat, ("--until-ci",), "until_ci", "SHARE", "instead: until each rate is known so well, such as 2%%")
    _single(repeat, ("--min-sessions",), "min", "N", "sessions that a cell has in any case then (default: 3)")
    _single(repeat, ("--max-sessions",), "max", "N", "sessions that a cell has at most then (default: 20)")
    _single(repeat, ("--order",), "order", "WORD", "random (default), interleaved or sequential")
    _single(repeat, ("--order-seed",), "order_seed", "N", "repeat the random order of an earlier sweep")
    repeat.add_argument(
        "--reference",
        dest="plan_reference",
        action="store_true",
        help="run the first cell also at the start, in the middle and at the end, to see a device drift",
    )
    repeat.add_argument(
        "--profile",
        dest="plan_profile",
        action="store_true",
        help="time each operator instead: one slowed session of each cell, compared with nothing (docs/profile.md)",
    )
    _single(repeat, ("--sensors-hz",), "sensors_hz", "HZ", "how often sensors are read (default: 10)")
    _single(repeat, ("--process-hz",), "process_hz", "HZ", "how often the runner's memory and CPU time are read")
    state = parser.add_argument_group("state of the device", "docs/plans.md lists what can be asked for.")
    _several(state, ("--condition",), "conditions", "KEY=VALUE", "during a run, such as screen=off or cluster=big")
    _several(state, ("--gate",), "gate", "KEY=VALUE", "before a run, such as battery_min_ratio=30%% or wait_s=10m")
    verdict = parser.add_argument_group("verdict", "What speaks against a run; docs/energy.md lists the thresholds.")
    _several(verdict, ("--threshold",), "thresholds", "KEY=VALUE", "from where on it does, such as unstable_cv=3%%")
    _several(verdict, ("--invalid",), "invalid", "CODE", "reasons that make a run invalid, such as throttled,charging")
    energy = parser.add_argument_group("energy")
    _single(energy, ("--grid",), "grid", "G_PER_KWH", HELP)
    settings = parser.add_argument_group("settings of the engine", "Each takes a list, too: every combination is run.")
    for flags, field, metavar, text in _SETTINGS:
        _several(settings, flags, field, metavar, text)


def plan_from_args(args: argparse.Namespace) -> Plan:
    """Make the plan that the parsed arguments ask for, reading the files they name. Raises UsageError, PlanError."""
    from melt.plan.flags import PlanFlags, plan_from_flags
    from melt.plan.reader import read_plan

    base = None
    if args.plan_file is not None:
        path = Path(args.plan_file)
        prompts = _prompts_beside(path.parent)
        base = read_plan(
            _read_plan_file(path),
            args.plan_file,
            load_prompts=prompts,
            load_inputs=inputs_beside(path.parent),
            load_grid=load_grid,
        )
    given = vars(args)
    flags = PlanFlags(
        devices=_texts(given, "devices"),
        models=_texts(given, "models"),
        quants=_texts(given, "quants"),
        engines=_texts(given, "engines"),
        workloads=_texts(given, "workloads"),
        n_prompt=_texts(given, "n_prompt"),
        n_gen=_texts(given, "n_gen"),
        prompt_gen=_texts(given, "prompt_gen"),
        depth=_texts(given, "depth"),
        settings={field: _texts(given, field) for _, field, _, _ in _SETTINGS},
        repeat=_given(given, "warmup", "repetitions", "sessions", "until_ci", "min", "max"),
        sampling=_given(given, "sensors_hz", "process_hz"),
        conditions=_texts(given, "conditions"),
        gate=_texts(given, "gate"),
        thresholds=_texts(given, "thresholds"),
        invalid=_texts(given, "invalid"),
        order=given["plan_order"],
        order_seed=given["plan_order_seed"],
        reference=given["plan_reference"],
        profile=given["plan_profile"],
        grid=given["plan_grid"],
    )
    return plan_from_flags(
        flags,
        base,
        load_prompts=_prompts_beside(Path()),
        load_inputs=inputs_beside(Path()),
        load_grid=load_grid,
    )


def _several(group: argparse._ArgumentGroup, flags: tuple[str, ...], name: str, metavar: str, text: str) -> None:
    group.add_argument(*flags, dest="plan_" + name, action="append", metavar=metavar, help=text)


def _single(group: argparse._ArgumentGroup, flags: tuple[str, ...], name: str, metavar: str, text: str) -> None:
    group.add_argument(*flags, dest="plan_" + name, metavar=metavar, help=text)


def _texts(given: dict[str, Any], name: str) -> tuple[str, ...]:
    return tuple(given["plan_" + name] or ())


def _given(given: dict[str, Any], *names: str) -> dict[str, str]:
    return {name: text for name in names if (text := given["plan_" + name]) is not None}


def _prompts_beside(folder: Path) -> Callable[[str], str]:
    return lambda path: _read_text(folder / path, "prompt file")


def _read_plan_file(path: Path) -> str:
    if not path.exists():
        there = sorted(str(other) for other in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        close = difflib.get_close_matches(str(path), there, n=1)
        raise UsageError(f"there is no plan {path}" + (f", did you mean {close[0]}?" if close else ""))
    return _read_text(path, "plan")


def _read_text(path: Path, what: str) -> str:
    """Read a file as UTF-8. Raises UsageError with one sentence when that cannot be."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: the {what} is not UTF-8 text: save it as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot read the {what} {path}: {reason}") from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"the {what} {path} is larger than {_MAX_BYTES // 2**20} MiB: split it")
    return text
