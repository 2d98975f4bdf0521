"""Reads the weights of a model once for each token, as decoding must, and only sums them up.

A program that knows nothing of melt. What it prints are JSON objects, a line each, with times of its own naming.
"""

import argparse
import json
import mmap
import resource
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

VERSION = "1.0"
KIB = 1024 if sys.platform == "linux" else 1


def main():
    """Read as often as is asked for, and print when what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=0, help="tokens of a prompt, which share one pass")
    parser.add_argument("--tokens", type=int, default=0, help="tokens to decode, a pass each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=0)
    asked = parser.parse_args()

    began_s = time.monotonic()
    with Path(asked.model).open("rb") as file, ThreadPoolExecutor(asked.threads) as pool:
        weights = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        each = -(-len(weights) // asked.threads)
        parts = [weights[at : at + each] for at in range(0, len(weights), each)]

        def read():
            list(pool.map(zlib.adler32, parts))
            return time.monotonic()

        ready_s = read()
        say(kind="start", version=VERSION, threads=asked.threads, bytes=len(weights), began_s=began_s, ready_s=ready_s)
        for number in range(-asked.warmup, asked.rounds):
            asked_s = time.monotonic()
            prompt_s = read() if asked.prompt else None
            # The pass over a prompt already gives the first token.
            first = [prompt_s] if asked.prompt and asked.tokens else []
            token_s = first + [read() for _ in range(asked.tokens - len(first))]
            say(
                kind="round",
                number=number % asked.warmup if number < 0 else number,
                warmup=number < 0,
                prompt=asked.prompt,
                asked_s=asked_s,
                prompt_s=prompt_s,
                token_s=token_s,
            )
    say(kind="end", peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB)


def say(**what):
    """Print an object on a line of its own."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
