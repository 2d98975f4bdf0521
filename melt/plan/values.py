"""Single values as people write them, in a plan or behind a flag: text in, a checked value out.

Every reader here raises UsageError with a sentence that does not say where; who called knows the line or the flag.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from melt.errors import UsageError
from melt.plan.model import MAX_ORDER_SEED, ORDERS
from melt.plan.repeats import LEAST_SESSIONS
from melt.verdicts import DOUBTS

T = TypeVar("T")
Reader = Callable[[str], T]

MAX_TOKENS = 10_000_000
MAX_DURATION_S = 30 * 86_400.0
_MAX_CPU = 4095
_MAX_NAME_LENGTH = 400
_SHOWN = 40
_DURATION_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the known word that looks most like `word`, or nothing."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f", did you mean '{close[0]}'?" if close else ""


def shown(text: str) -> str:
    """Quote what was found for a message: on one line and not too long."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def whole(low: int, high: int) -> Reader[int]:
    """Make a reader of whole numbers from `low` to `high`. Plain decimal digits; `_` may group them."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9][0-9_]*", text):
            raise UsageError(f"expected a whole number, found {shown(text)}")
        digits = text.replace("_", "")
        # Python refuses to convert thousands of digits; nothing melt reads has more than 12.
        if len(digits) > 18 or not low <= int(digits) <= high:
            raise UsageError(f"expected a whole number from {low} to {high}, found {shown(text)}")
        return int(digits)

    return read


def number(low: float, high: float) -> Reader[float]:
    """Make a reader of decimal numbers from `low` to `high`; infinities and NaN are refused."""

    def read(text: str) -> float:
        if not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", text):
            raise UsageError(f"expected a number, found {shown(text)}")
        if not low <= float(text) <= high:
            raise UsageError(f"expected a number from {low:g} to {high:g}, found {shown(text)}")
        return float(text)

    return read


def word(*choices: str) -> Reader[str]:
    """Make a reader of one word out of `choices`, whatever its case."""

    def read(text: str) -> str:
        if text.lower() not in choices:
            raise UsageError(f"expected one of {', '.join(choices)}, found {shown(text)}{nearest(text, choices)}")
        return text.lower()

    return read


def truth(text: str) -> bool:
    """Read yes or no, as YAML and as llama-bench (0 and 1) write it."""
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise UsageError(f"expected true or false, found {shown(text)}")


def ratio(text: str) -> float:
    """Read a share from 0 to 1, or in per cent: `0.3`, `30%`."""
    if text.endswith("%"):
        return number(0, 100)(text[:-1].rstrip()) / 100
    return number(0, 1)(text)


def share(high: float) -> Reader[float]:
    """Make a reader of shares from 0 to `high`, as `ratio` takes them."""

    def read(text: str) -> float:
        try:
            found = ratio(text)
        except UsageError:
            found = math.inf
        if found > high:
            raise UsageError(f"expected a share from 0 to {100 * high:g}% (or {high:g}), found {shown(text)}")
        return found

    return read


def doubt(text: str) -> str:
    """Read the code of a reason that may speak against a run: `throttled`."""
    if text.lower() not in DOUBTS:
        hint = nearest(text, DOUBTS) or "; docs/metrics.md lists them"
        raise UsageError(f"no reason against a run has the code {shown(text)}{hint}")
    return text.lower()


def _switch(text: str) -> str:
    """Read on or off; true and false, 1 and 0 mean the same."""
    try:
        return "on" if truth(text) else "off"
    except UsageError:
        raise UsageError(f"expected on or off, found {shown(text)}") from None


def _usb_power(text: str) -> str:
    """Read on, off, or off for a time, `off for 10m`, which becomes `off for 600s`."""
    match = re.fullmatch(r"off\s+for\s+(\S.*)", text, re.IGNORECASE)
    return _switch(text) if match is None else f"off for {duration(match[1]):.12g}s"


def _nvpmodel(text: str) -> str:
    """Read a power mode of a Jetson: its name, in capitals as NVIDIA writes them all, or its number."""
    if re.fullmatch(r"[0-9]{1,3}", text):
        return str(int(text))
    if not re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9_.+-]{2,64}", text):
        raise UsageError(f"expected a power mode's name or number, such as MAXN, 15W or 0, found {shown(text)}")
    return text.upper()


def flash_attention(text: str) -> str:
    """Read auto, on or off; true and false, 1 and 0 mean on and off."""
    if text.lower() == "auto":
        return "auto"
    try:
        return "on" if truth(text) else "off"
    except UsageError:
        raise UsageError(f"expected auto, on or off, found {shown(text)}") from None


def duration(text: str) -> float:
    """Read `500ms`, `60s`, `5m` or `1h` in seconds, to the millisecond; a bare number is seconds."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?) ?(ms|s|min|m|h|)", text)
    if match is None:
        raise UsageError(f"expected a duration such as 60s, 5m or 1h, found {shown(text)}")
    seconds = round(float(match[1]) * _DURATION_UNITS_S[match[2]], 3)
    if not 0.001 <= seconds <= MAX_DURATION_S:
        raise UsageError(f"expected a duration from 1ms to {MAX_DURATION_S / 3600:g}h, found {shown(text)}")
    return seconds


def name(text: str) -> str:
    """Read the name of something: printable, not empty."""
    # isprintable is False for control characters, line breaks and lone surrogates, which no file or table can hold.
    if not text.strip() or not text.isprintable():
        raise UsageError(f"expected a name, found {shown(text)}")
    if len(text) > _MAX_NAME_LENGTH:
        raise UsageError(f"expected a name of at most {_MAX_NAME_LENGTH} characters, found {len(text)}")
    return text.strip()


def quant(text: str) -> str:
    """Read a quantization in lower case, `+imatrix` behind it or not. Whether there is one is for the models to say."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,31}(-[a-z]{1,16}|\+imatrix)?", text, re.IGNORECASE):
        raise UsageError(f"expected a quantization such as q8_0, q4_k_m or int8-dynamic, found {shown(text)}")
    return text.lower()


def precision(text: str) -> float:
    """Read how far an interval may reach to either side, as a share: `2%`, `0.02`."""
    try:
        share = ratio(text)
    except UsageError:
        share = 0.0
    if not 0.0001 <= share <= 0.5:
        raise UsageError(f"expected a precision such as 2%, from 0.01% to 50%, found {shown(text)}")
    return share


def cpu_list(text: str) -> str:
    """Read a list of CPUs as the kernel writes it: `0-3,6`."""
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if match is None or not int(match[1]) <= int(match[2] or match[1]) <= _MAX_CPU:
            raise UsageError(f"expected CPUs such as 0-3,6, found {shown(text)}")
    return text


_PROVIDERS = (
    "ACL",
    "ArmNN",
    "Azure",
    "CANN",
    "CPU",
    "CUDA",
    "CoreML",
    "Dml",
    "Dnnl",
    "Js",
    "MIGraphX",
    "Nnapi",
    "NvTensorRTRTX",
    "OpenVINO",
    "QNN",
    "ROCM",
    "Rknpu",
    "Tensorrt",
    "VSINPU",
    "VitisAI",
    "WebGpu",
    "WebNN",
    "Xnnpack",
)
_PROVIDER = "ExecutionProvider"


def providers(text: str) -> tuple[str, ...]:
    """Read execution providers in the order in which they may take nodes: `cuda+cpu`, by short or full names."""
    if text.lower() == "default":
        return ()
    return tuple(dict.fromkeys(_provider(part.strip()) for part in text.split("+")))


def _provider(text: str) -> str:
    """Return a provider's full name; one that melt does not know may be of the user's own build."""
    short = re.sub(f"{_PROVIDER}$", "", text, flags=re.IGNORECASE)
    known = {name.lower(): name for name in _PROVIDERS}
    if short.lower() in known:
        return known[short.lower()] + _PROVIDER
    if short != text and re.fullmatch(r"[A-Za-z0-9]{1,40}", short):
        return short + _PROVIDER
    raise UsageError(
        f"expected execution providers such as cuda+cpu or CPUExecutionProvider, found {shown(text)}"
        f"{nearest(short, known)}"
    )


_CACHE_TYPE = word("f16", "f32", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

SETTINGS: Mapping[str, Reader[object]] = {
    "threads": whole(1, 1024),
    "threads_batch": whole(1, 1024),
    "n_batch": whole(1, 1_048_576),
    "n_ubatch": whole(1, 1_048_576),
    "cache_type_k": _CACHE_TYPE,
    "cache_type_v": _CACHE_TYPE,
    "flash_attn": flash_attention,
    "n_gpu_layers": whole(-1, 100_000),
    "mmap": truth,
    "page_cache": word("warm", "cold"),
    "seed": whole(0, 2**32 - 1),
    "temperature": number(0, 100),
    "ignore_eos": truth,
    "affinity": cpu_list,
    "timeout_s": duration,
    "trip_c": number(1, 200),
    "trip_defaults": truth,
    "providers": providers,
    "graph_optimization": word("disabled", "basic", "extended", "all"),
    "arena": truth,
    "io_binding": truth,
    "inter_op_threads": whole(1, 1024),
}
"""How each field of `records.Settings` is read."""

REPEAT: Mapping[str, Reader[object]] = {
    "warmup": whole(0, 100_000),
    "repetitions": whole(1, 100_000),
    "sessions": whole(1, 10_000),
    "until_ci": precision,
    "min": whole(LEAST_SESSIONS, 10_000),
    "max": whole(LEAST_SESSIONS, 10_000),
}
"""How each key of a plan's `repeat` is read; `repeats` makes a `records.Repeat` of them."""

SAMPLING: Mapping[str, Reader[object]] = {
    "sensors_hz": number(0.01, 1000),
    "process_hz": number(0.01, 1000),
    "power_hz": number(0.01, 1000),
    "baseline_s": number(0, 600),
    "recovery_s": number(0, 3600),
    "energy": word("optional", "required"),
}
"""How each field of `records.Sampling` is read."""

CONDITIONS: Mapping[str, Reader[object]] = {
    "screen": _switch,
    "brightness": whole(0, 255),
    "stay_awake": truth,
    "charging": word("suspended", "allowed"),
    "fixed_performance": truth,
    "airplane": truth,
    "wifi": truth,
    "cluster": word("little", "mid", "big", "prime"),
    "usb_power": _usb_power,
    "nvpmodel": _nvpmodel,
    "jetson_clocks": truth,
}
"""How each field of `records.Conditions` is read."""

GATE: Mapping[str, Reader[object]] = {
    "battery_min_ratio": ratio,
    "temperature_max_c": number(-40, 200),
    "temperature_stable_c": number(0.01, 100),
    "charging": truth,
    "cpu_idle_min_ratio": ratio,
    "must_fit": truth,
    "wait_s": duration,
    "pause_s": duration,
}
"""How each field of `records.Gate` is read."""

_HALF = share(0.5)

THRESHOLDS: Mapping[str, Reader[object]] = {
    "repetitions_min": whole(1, 1000),
    "unstable_cv": _HALF,
    "drift_ratio": _HALF,
    "order_effect_ratio": _HALF,
    "cold_resident_ratio": _HALF,
    "missed_ticks_ratio": _HALF,
    "gap_periods": number(1.5, 1000),
    "clock_uncertainty_s": duration,
    "frequency_drop_ratio": _HALF,
    "background_load_ratio": _HALF,
    "cpu_stolen_ratio": _HALF,
    "swap_bytes": whole(0, 2**40),
    "major_faults_hz": number(0, 1e6),
    "battery_low_ratio": ratio,
    "energy_gap_ratio": _HALF,
    "baseline_unsteady_ratio": _HALF,
    "wrong_way_ratio": _HALF,
    "charge_factor": number(1.1, 100),
    "meter_lost_ratio": _HALF,
    "meter_unread_ratio": _HALF,
}
"""How each field of `records.Thresholds` is read but `invalid`, a list of what `doubt` reads."""

REFERENCE: Mapping[str, Reader[object]] = {
    "model": name,
    "quant": quant,
    "workload": lambda text: " ".join(text.split()),
}
"""How each field of `model.Reference` is read."""

order_seed = whole(0, MAX_ORDER_SEED)


def order(text: str) -> str:
    """Read an order, and say what became of the name that one of them had."""
    if text.lower() == "blocks":
        raise UsageError("the order 'blocks' is called 'interleaved' now; the default is 'random'")
    return word(*ORDERS)(text)
