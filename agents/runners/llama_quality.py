"""Score model files with llama.cpp and print what was found: `python llama_quality.py JOB.json [--detached]`.

A job is {"kind": "text", "models": [{"path", "begin"}], "reference": index or null, "data": path, "n_ctx",
"max_chunks", "threads"} or {"kind": "choices", "models", "data", "threads"}; `data` holds the text, or the items as
JSON; `begin` is the first chunk or item that is still wanted of a model. Prints one JSON object a line:

    hello   engine_version, engine_revision
    size    total: chunks of the text or items; per_chunk: tokens scored in each chunk
    scores  model, index (of the chunk), nll, kl, same: a number for each token; kl and same only beside a reference
    choice  model, index (of the item), log_likelihoods: one for each choice, in nats
    error   code, message
    finish

Texts are scored as llama-perplexity does it: chunks of n_ctx tokens, each begun with the model's BOS token where it has
one, of which the second half is scored. Several models go through the text side by side, a batch at a time, so that the
reference's probabilities never touch a disk. Runs on Python 3.8 and later, with llama-cpp-python and the numpy that it
brings. Ends when its stdin does, so that it never outlives who started it; with --detached who started it is the agent,
which ends it itself.
"""

from __future__ import annotations

import json
import os
import sys

# The folder of this file has a llama_cpp.py: it goes to the end of where Python looks for imports.
_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or os.curdir) != _HERE] + [_HERE]

from llama_api import import_bindings  # noqa: E402
from llama_scoring import N_BATCH, Scorer, divergence, nll, remembered  # noqa: E402
from runner_io import Events, Failure, end_with_parent, stay_awake  # noqa: E402


def main(argv):
    """Run the job named on the command line and return the exit code."""
    detached = argv[2:] == ["--detached"]
    if len(argv) != 2 and not detached:
        print("usage: %s JOB.json [--detached]" % argv[0], file=sys.stderr)
        return 2
    events = Events()
    if detached:
        stay_awake()
    else:
        end_with_parent()
    try:
        with open(argv[1], encoding="utf-8") as file:
            job = json.load(file)
        _run(job, events)
        return 0
    except Failure as failure:
        events.fail(failure)
    except MemoryError:
        events.fail(Failure("out_of_memory", "Python ran out of memory"))
    except Exception as error:
        sys.excepthook(*sys.exc_info())
        events.fail(Failure("internal", "%s: %s" % (type(error).__name__, error)))
    return 1


def _run(job, events):
    api, version = import_bindings()
    events.say(
        "hello",
        engine_version="llama-cpp-python %s" % version,
        engine_revision="llama.cpp %s" % api.llama_version().decode(),
    )
    score = _score_text if job["kind"] == "text" else _score_choices
    score(job, lambda model: Scorer(api, model["path"], events.fail), events)
    events.say("finish")


def _score_text(job, load, events):
    n_ctx, reference = job["n_ctx"], job["reference"]
    # Line ends as they are: llama.cpp sees those of Windows, too.
    with open(job["data"], encoding="utf-8", newline="") as file:
        text = file.read()
    # As llama.cpp reads a prompt from a file.
    text = text[:-1] if text.endswith("\n") else text
    models = [load(model) for model in job["models"]]
    tokens = models[0].tokenize(text, special=False)
    for model in models:
        if model.n_vocab != models[0].n_vocab or model.tokenize(text, special=False) != tokens:
            raise Failure("bad_request", "%s has another vocabulary than %s" % (model.path, models[0].path))
        if model.n_ctx_train and n_ctx > model.n_ctx_train:
            raise Failure(
                "context_too_long",
                "chunks of %d tokens are longer than the %d that %s was trained for"
                % (n_ctx, model.n_ctx_train, model.path),
            )
    if len(tokens) < 2 * n_ctx:
        raise Failure(
            "bad_request",
            "the text has %d tokens, and with chunks of %d at least %d are needed" % (len(tokens), n_ctx, 2 * n_ctx),
        )
    total = len(tokens) // n_ctx
    total = min(total, job["max_chunks"] or total)
    first = n_ctx // 2
    events.say("size", total=total, per_chunk=n_ctx - 1 - first)
    begins = [model["begin"] for model in job["models"]]
    for model in models:
        model.open(n_ctx, n_ctx - first, job["threads"])
    for index in range(min(begins), total):
        wanted = [index >= begin for begin in begins]
        compared = any(want for number, want in enumerate(wanted) if number != reference)
        chunk = tokens[index * n_ctx : (index + 1) * n_ctx]
        scores = _score_chunk(models, wanted, reference if compared else None, chunk, first)
        for number, found in sorted(scores.items()):
            if wanted[number]:
                events.say("scores", model=number, index=index, **found)


def _score_chunk(models, wanted, reference, chunk, first):
    """Return the scores of one chunk by the number of the model: of those wanted, and of the reference for them."""
    numbers = [n for n in range(len(models)) if wanted[n] and n != reference]
    # The reference comes first: the others are held against its rows.
    numbers = ([] if reference is None else [reference]) + numbers
    scores = {n: {"nll": []} for n in numbers}
    for n in numbers:
        models[n].forget()
    for at in range(0, len(chunk), N_BATCH):
        part = chunk[at : at + N_BATCH]
        begin, end = max(first - at, 0), min(len(part), len(chunk) - 1 - at)
        following = chunk[at + begin + 1 : at + end + 1]
        expected = None
        for n in numbers:
            model, found = models[n], scores[n]
            given = [model.bos, *part[1:]] if at == 0 and model.adds_bos else part
            logits = model.rows(given, begin, end)
            if not len(logits):
                continue
            found["nll"] += _rounded(nll(logits, following))
            if n == reference:
                expected = remembered(logits)
            elif expected is not None:
                kl, same = divergence(expected, logits)
                found.setdefault("kl", []).extend(_rounded(kl))
                found.setdefault("same", []).extend(int(one) for one in same)
    return scores


def _rounded(values):
    # Below what float32 logits can tell; shortens the lines by half.
    return [round(float(value), 9) for value in values]


def _score_choices(job, load, events):
    with open(job["data"], encoding="utf-8") as file:
        items = json.load(file)
    events.say("size", total=len(items), per_chunk=None)
    for number, asked in enumerate(job["models"]):
        if asked["begin"] >= len(items):
            continue
        model = load(asked)
        encoded = [[_encode(model, item["where"], *pair) for pair in item["pairs"]] for item in items]
        pairs = [pair for item in encoded for pair in item]
        n_ctx = max(len(given) + len(wanted) for given, wanted in pairs)
        model.open(n_ctx, max(len(wanted) for _, wanted in pairs), job["threads"])
        for index in range(asked["begin"], len(items)):
            found = [model.log_likelihood(given, wanted) for given, wanted in encoded[index]]
            events.say("choice", model=number, index=index, log_likelihoods=found)
        model.close()


def _encode(model, where, context, continuation):
    """Return the tokens of a context and of what follows it, split as lm-evaluation-harness does. Raises Failure."""
    whole = model.tokenize(context + continuation, special=True)
    given = model.tokenize(context, special=True) if context else whole[: int(model.adds_bos)]
    wanted = whole[len(given) :]
    if not wanted:
        raise Failure("bad_request", "%s: a choice adds no token to its context" % where)
    given = given or [model.first_token()]
    if model.n_ctx_train and len(given) + len(wanted) > model.n_ctx_train:
        raise Failure(
            "context_too_long",
            "%s: an item of %d tokens is longer than the %d that %s was trained for"
            % (where, len(given) + len(wanted), model.n_ctx_train, model.path),
        )
    return given, wanted


if __name__ == "__main__":
    # Freeing a model takes time and gives nothing: the process ends here.
    code = main(sys.argv)
    sys.stderr.flush()
    os._exit(code)
