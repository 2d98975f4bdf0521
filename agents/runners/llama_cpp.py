"""Run a workload with llama.cpp and print what happened: `python llama_cpp.py JOB.json`.

The job holds `model` (a path), `n_ctx_train` (or null) and the fields of a Workload, Settings and Repeat of
melt/records/spec.py; the events are those of agents/PROTOCOL.md, "Runner events". Runs on the device's own Python, 3.8
and later, with the standard library and llama-cpp-python. Exit code 0 when it printed `finish`, 143 when it was told to
end, 1 otherwise.
"""

from __future__ import annotations

import gc
import os
import sys
import time

# This file is named like the package that it needs, and Python looks for imports beside a script first: its own
# folder goes to the end, where only the files beside it are found.
_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or os.curdir) != _HERE] + [_HERE]

import llama_facts  # noqa: E402
import page_cache  # noqa: E402
from llama_api import Engine, import_bindings  # noqa: E402
from llama_profile import ProfiledWorker, Profiler  # noqa: E402
from llama_work import Worker  # noqa: E402
from runner_io import Failure, peak_rss_bytes, repetitions, run_job  # noqa: E402


def _run(job, events, stop):
    if job.workload.kind == "inference":
        raise Failure("bad_request", "llama.cpp runs workloads of tokens (pp512, tg128), not single-shot inference")
    _check_context(job, job.n_ctx_train, _asked_tokens(job.workload))
    api, version = import_bindings()
    events.say(
        "hello",
        runner="llama_cpp.py",
        engine="llama.cpp",
        engine_version="llama-cpp-python %s" % version,
        engine_revision="llama.cpp %s" % api.llama_version().decode(),
        pid=os.getpid(),
        python=sys.version.split()[0],
    )
    engine = Engine(api, aborting=events.fail)
    engine.check_file(job.model)
    n_ctx = _needed_context(job, engine)
    cache = page_cache.prepare(job.model, job.settings.page_cache)
    gc.disable()
    profiler = Profiler(api) if job.profile else None
    _load(job, engine, events, n_ctx, cache, profiler)
    gc.freeze()
    work = _prompts if job.workload.kind == "prompts" else _synthetic
    worker = (
        Worker(engine, job.settings, stop) if profiler is None else ProfiledWorker(engine, job.settings, stop, profiler)
    )
    for repetition, warmup in repetitions(job.repeat):
        for generation in work(job, engine, worker, stop, events, repetition, warmup):
            events.say("generation", repetition=repetition, warmup=warmup, depth=job.workload.n_depth, **generation)
            for part in () if profiler is None else profiler.events():
                events.say("operators", repetition=repetition, warmup=warmup, **part)
        if stop.told:
            return False
    events.say("finish", t_ns=time.monotonic_ns(), peak_rss_bytes=peak_rss_bytes())
    return True


def _load(job, engine, events, n_ctx, cache, profiler):
    begun_ns = time.monotonic_ns()
    engine.load(job.model, job.settings)
    _check_context(job, engine.n_ctx_train, n_ctx)
    engine.open(n_ctx, job.settings, None if profiler is None else profiler.callback)
    done_ns = time.monotonic_ns()
    events.say(
        "load",
        t0_ns=begun_ns,
        t1_ns=done_ns,
        page_cache=cache,
        used=llama_facts.used(engine, job.settings),
        memory=llama_facts.memory(engine, job.settings),
    )


def _synthetic(job, engine, worker, stop, _events, _repetition, warmup):
    """Do one repetition of made-up tokens: one request, or as many as fit into duration_s."""
    workload = job.workload
    # One more than is prefilled: the token that a decode-only workload begins with.
    tokens = engine.synthetic(workload.n_depth + workload.n_prompt + 1, job.settings.seed)
    depth_tokens, prompt = _part(tokens, 0, workload.n_depth), _part(tokens, workload.n_depth, workload.n_prompt)
    first = tokens[workload.n_depth + workload.n_prompt]
    sustained = workload.kind == "sustained" and not warmup
    stop.set(time.monotonic_ns() + int(workload.duration_s * 1e9) if sustained else None)
    while True:
        worker.prepare(depth_tokens)
        if time.monotonic_ns() >= stop.at_ns:
            return
        generation = worker.request(prompt, first, workload.n_gen)
        yield dict(generation, text=None)
        if not sustained or time.monotonic_ns() >= stop.at_ns:
            return


def _prompts(job, engine, worker, stop, events, repetition, warmup):
    """Do one repetition of texts: each is tokenized and answered, and counts from the moment it is handed over."""
    workload = job.workload
    depth_tokens = engine.synthetic(workload.n_depth, job.settings.seed)
    for prompt in workload.prompts:
        worker.prepare(depth_tokens)
        if stop.told:
            return
        begun_ns = time.monotonic_ns()
        tokens = engine.tokenize(prompt)
        done_ns = time.monotonic_ns()
        generation = worker.request(tokens, None, workload.n_gen, submit_ns=begun_ns)
        events.say("tokenize", t0_ns=begun_ns, t1_ns=done_ns, n=len(tokens), repetition=repetition, warmup=warmup)
        yield dict(generation, text=engine.text(generation["token_ids"]))


def _part(tokens, begin, count):
    kind = type(tokens)._type_ * count
    return kind.from_buffer(tokens, begin * 4) if count else kind()


def _asked_tokens(workload):
    return workload.n_depth + workload.n_prompt + workload.n_gen


def _needed_context(job, engine):
    """Return how many tokens the context must hold; texts are counted with nothing but the vocabulary loaded."""
    if job.workload.kind != "prompts":
        return max(_asked_tokens(job.workload), 1)
    engine.load(job.model, job.settings, vocab_only=True)
    longest = max(len(engine.tokenize(text)) for text in job.workload.prompts)
    n_ctx = longest + job.workload.n_depth + job.workload.n_gen
    _check_context(job, engine.n_ctx_train, n_ctx)
    engine.unload()
    return n_ctx


def _check_context(job, n_ctx_train, n_ctx):
    if n_ctx_train and n_ctx > n_ctx_train:
        raise Failure(
            "context_too_long",
            "the workload needs a context of %d tokens, the model was trained for %d: %s"
            % (n_ctx, n_ctx_train, job.model),
        )


if __name__ == "__main__":
    # Freeing a model takes time and gives nothing: the process ends here.
    code = run_job(sys.argv, _run)
    sys.stderr.flush()
    os._exit(code)
