"""What only shows when a sweep is over: doubts about its runs, kept beside their documents."""

from __future__ import annotations

from melt.analysis.order_effect import CODE, order_doubts
from melt.errors import MeltError
from melt.events import Note, Observer
from melt.store.selection import Selection
from melt.store.store import Store


def review_sweep(store: Store, sweep_id: str, observe: Observer) -> None:
    """Test the runs of a sweep for an effect of their order; what an earlier review said of it holds no more.

    A sweep that is gone on with is reviewed anew. Never fails: what cannot be kept is told, and the next review keeps
    it.
    """
    try:
        chosen = Selection(sweep=sweep_id)
        # What an earlier review made invalid is evidence all the same.
        bundles = store.bundles(chosen, reviewed=False)
        doubts = order_doubts(bundles)
        if doubts or any(CODE in line.reasons for line in store.listing(chosen)):
            store.review(CODE, [bundle.start.spec.run_id for bundle in bundles], doubts)
    except MeltError as error:
        observe(
            Note(f"whether the order of the runs mattered is not kept: {error}; `melt resume {sweep_id}` tries again")
        )
