"""One job on ONNX Runtime, from the first look at the model to the last event.

Runs on the device's own Python, 3.8 and later.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import time

import onnx_inputs
import onnx_session
import onnx_tokens
import onnx_work
import onnxruntime
import page_cache
from onnx_decoder import Decoder
from onnx_look import look
from onnx_profile import Profiler
from runner_io import Failure, peak_rss_bytes, repetitions


def run(job, events, stop):
    """Do what the job asks for; return whether all of it was done, False when told to end before. Raises Failure."""
    events.say(
        "hello",
        runner="onnx_runtime.py",
        engine="onnxruntime",
        engine_version="onnxruntime %s" % onnxruntime.__version__,
        engine_revision=_revision(),
        pid=os.getpid(),
        python=sys.version.split()[0],
    )
    if job.workload.kind != "inference":
        _check_sampling(job)
    _check_file(job.model)
    seen = look(job.path, stop)
    if seen is None:
        return False
    cache = page_cache.prepare(job.model, job.settings.page_cache)
    gc.disable()
    begun_ns = time.monotonic_ns()
    options = onnx_session.options(job.settings)
    profiler = Profiler(options, os.path.dirname(os.path.abspath(job.path))) if job.profile else None
    session = onnx_session.Session(job.model, job.settings, options)
    load = {"t0_ns": begun_ns, "t1_ns": time.monotonic_ns(), "page_cache": cache}
    work = _single_shot if job.workload.kind == "inference" else _tokens
    if profiler is None:
        done = work(job, session, seen, load, events, stop)
    else:
        profiler.began(session.inner)
        done = work(job, session, seen, load, profiler.watching(events), stop)
        for name, fields in profiler.events():
            events.say(name, **fields)
    if not done:
        return False
    events.say("finish", t_ns=time.monotonic_ns(), peak_rss_bytes=peak_rss_bytes())
    return True


def _single_shot(job, session, seen, load, events, stop):
    arrays = onnx_work.tensors(job, session.declared)
    batch = onnx_inputs.batch(arrays, session.declared)
    inputs = {name: {"type": str(array.dtype), "shape": list(array.shape)} for name, array in arrays.items()}
    events.say("load", used=dict(onnx_session.used(session, seen), inputs=inputs), memory={}, **load)
    request = onnx_work.request(session, arrays)
    gc.freeze()
    for number, warmup in repetitions(job.repeat):
        begun_ns, ended_ns = onnx_work.repetition(request, job.workload, warmup, stop)
        onnx_work.say(events, begun_ns, ended_ns, repetition=number, warmup=warmup, batch=batch)
        if stop.told:
            return False
    return True


def _tokens(job, session, seen, load, events, stop):
    workload, n_batch = job.workload, job.settings.n_batch
    decoder = Decoder(session, workload.dims, max(workload.n_depth + workload.n_prompt + workload.n_gen, 1))
    longest = min(max(workload.n_depth, workload.n_prompt, 1), n_batch)
    n_vocab = decoder.open(seen["outputs"]["logits"], longest, workload.n_depth)
    used = dict(onnx_session.used(session, seen), n_ctx=decoder.n_ctx, n_batch=n_batch, cache_type=decoder.cache_type)
    events.say("load", used=used, memory={"kv_cache_bytes": decoder.cache_bytes}, **load)
    # One more than is prefilled: the token that a decode-only workload begins with.
    before = workload.n_depth + workload.n_prompt
    tokens = onnx_tokens.made_up(before + 1, job.settings.seed, n_vocab)
    depth, prompt, first = tokens[:, : workload.n_depth], tokens[:, workload.n_depth : before], int(tokens[0, before])
    worker = onnx_tokens.Worker(decoder, n_batch, stop)
    gc.freeze()
    for number, warmup in repetitions(job.repeat):
        lasts = workload.kind == "sustained" and not warmup
        stop.set(time.monotonic_ns() + int(workload.duration_s * 1e9) if lasts else None)
        while True:
            worker.prepare(depth)
            if time.monotonic_ns() >= stop.at_ns:
                break
            generation = worker.request(prompt, first, workload.n_gen)
            fields = dict(generation, text=None, depth=workload.n_depth)
            events.say("generation", repetition=number, warmup=warmup, **fields)
            if not lasts or time.monotonic_ns() >= stop.at_ns:
                break
        if stop.told:
            return False
    return True


def _check_sampling(job):
    if job.workload.kind == "prompts":
        raise Failure(
            "bad_request", "an .onnx file holds no tokenizer: measure it with tokens (pp512+tg128), not texts"
        )
    if job.settings.temperature > 0:
        raise Failure("bad_request", "with ONNX Runtime the likeliest token is taken: leave the temperature at 0")
    if not job.settings.ignore_eos:
        raise Failure("bad_request", "an .onnx file does not tell which token ends a text: leave ignore_eos at true")


def _revision():
    commit = re.search(r"git-commit-id=(\w+)", onnxruntime.get_build_info())
    return "onnxruntime %s%s" % (onnxruntime.__version__, " (%s)" % commit.group(1) if commit else "")


def _check_file(path):
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise Failure("bad_request", "cannot read the model %s: %s" % (path, error.strerror)) from None
