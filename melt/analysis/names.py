"""Every metric of a run: name, unit, what people call it, which way is better. docs/metrics.md defines them."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Info:
    """`title` is the standard term; `better` is +1 when higher is better, -1 when lower is, 0 when neither."""

    unit: str
    title: str
    better: int


METRICS = MappingProxyType(
    {
        "load_s": Info("s", "load time", -1),
        "tokenize_s": Info("s", "tokenize", -1),
        "ttft_s": Info("s", "TTFT", -1),
        "tpot_s": Info("s", "TPOT", -1),
        "itl_p50_s": Info("s", "ITL p50", -1),
        "itl_p95_s": Info("s", "ITL p95", -1),
        "itl_p99_s": Info("s", "ITL p99", -1),
        "e2e_s": Info("s", "E2E latency", -1),
        "first_inference_s": Info("s", "first inference", -1),
        "first_inference_ratio": Info("ratio", "first of p50", -1),
        "inference_p50_s": Info("s", "latency p50", -1),
        "inference_p90_s": Info("s", "latency p90", -1),
        "inference_p99_s": Info("s", "latency p99", -1),
        "inferences_per_s": Info("inferences/s", "throughput", 1),
        "items_per_s": Info("items/s", "items", 1),
        "prefill_tps": Info("tok/s", "prefill", 1),
        "decode_tps": Info("tok/s", "decode", 1),
        "burst_tps": Info("tok/s", "burst", 1),
        "steady_tps": Info("tok/s", "steady", 1),
        "steady_ratio": Info("ratio", "steady of burst", 1),
        "time_to_throttle_s": Info("s", "time to throttle", 1),
        "mbu_ratio": Info("ratio", "MBU", 1),
        "mfu_prefill_ratio": Info("ratio", "MFU prefill", 1),
        "mfu_decode_ratio": Info("ratio", "MFU decode", 1),
        "roofline_prefill_ratio": Info("ratio", "roofline prefill", 1),
        "roofline_decode_ratio": Info("ratio", "roofline decode", 1),
        "peak_rss_bytes": Info("bytes", "peak memory", -1),
        "model_bytes": Info("bytes", "model in memory", -1),
        "kv_cache_bytes": Info("bytes", "KV cache", -1),
        "memory_used_ratio": Info("ratio", "memory used", -1),
        "memory_pressure_ratio": Info("ratio", "memory pressure", -1),
        "temperature_start_c": Info("c", "temperature at start", -1),
        "temperature_mean_c": Info("c", "temperature mean", -1),
        "temperature_max_c": Info("c", "temperature max", -1),
        "temperature_rise_c": Info("c", "temperature rise", -1),
        "recovery_s": Info("s", "recovery", -1),
        "power_mean_w": Info("w", "power mean", -1),
        "power_peak_w": Info("w", "power peak", -1),
        "power_idle_w": Info("w", "power at rest", -1),
        "energy_load_j": Info("j", "energy load", -1),
        "energy_load_net_j": Info("j", "energy load, net", -1),
        "energy_prefill_j": Info("j", "energy prefill", -1),
        "energy_prefill_net_j": Info("j", "energy prefill, net", -1),
        "energy_decode_j": Info("j", "energy decode", -1),
        "energy_decode_net_j": Info("j", "energy decode, net", -1),
        "energy_per_prompt_token_j": Info("j/tok", "energy per prompt token", -1),
        "energy_per_prompt_token_net_j": Info("j/tok", "energy per prompt token, net", -1),
        "energy_per_token_j": Info("j/tok", "energy per token", -1),
        "energy_per_token_net_j": Info("j/tok", "energy per token, net", -1),
        "energy_inference_j": Info("j", "energy inference", -1),
        "energy_inference_net_j": Info("j", "energy inference, net", -1),
        "energy_per_inference_j": Info("j/inference", "energy per inference", -1),
        "energy_per_inference_net_j": Info("j/inference", "energy per inference, net", -1),
        "energy_counter_j": Info("j", "energy by charge counter", -1),
        "tokens_per_j": Info("tok/j", "decoded tokens per joule", 1),
        "energy_response_j": Info("j", "energy per response", -1),
        "charge_response_coulomb": Info("c_coulomb", "charge per response", -1),
        "responses_per_battery": Info("responses", "responses per battery", 1),
        "energy_delay_js": Info("j*s", "energy-delay product", -1),
        "carbon_response_g": Info("gco2e", "carbon per response", -1),
        "agent_cpu_ratio": Info("ratio", "agent CPU", -1),
        "agent_rss_bytes": Info("bytes", "agent memory", -1),
        "missed_ticks": Info("1", "missed ticks", -1),
    }
)
"""In the order in which a report shows them."""

PHASE_OF = MappingProxyType({"prefill_tps": "prefill", "decode_tps": "decode", "inferences_per_s": "inference"})
"""Rates by which repetitions, sessions and nights are judged, and what each is the rate of."""
