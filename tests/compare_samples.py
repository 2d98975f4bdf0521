"""Runs to set side by side, and what came of it."""

from __future__ import annotations

from store_samples import make_bundle


def bundles(rates, **how):
    """A run for each rate of each column, column after column within a session, as a sweep makes them."""
    made = []
    for session in range(max(map(len, rates.values()))):
        for quant, values in rates.items():
            if session < len(values):
                i = len(made)
                made.append(
                    make_bundle(f"r{i}", quant=quant, position=i, block=session, decode_tps=values[session], **how)
                )
    return made


def cells(comparison, metric="decode_tps", group=0):
    (row,) = (row for row in comparison.groups[group].rows if row.metric == metric)
    return row.cells
