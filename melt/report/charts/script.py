"""The script that draws charts in a page: Vega, Vega-Lite, their embedding, and how melt uses them."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path

from melt.report.charts.theme import THEMES

_OURS = Path(__file__).with_name("embed.js")
_INTERPRETED = "window.vegaEmbed = vegaEmbed;"
_ENDS_ELEMENT = re.compile(r"<(?=/script|script|!--)", re.IGNORECASE)


def page_script() -> str:
    """Return the script for a page, about 0.9 MB; it may stand inside `<script>`.

    It defines `meltDraw(element, spec)`, which gives a promise of Vega's view (later: `element.meltView`), and draws
    each `.melt-chart` when it comes near the screen. Charts fit their element's width and follow the theme
    (`data-theme` of the document's element, else the system's); print is light.
    """
    themes = json.dumps({name: theme.config() for name, theme in THEMES.items()}, separators=(",", ":"))
    ours = _OURS.read_text(encoding="utf-8").replace("MELT_THEMES", themes)
    # Between braces: the libraries' names must not become the page's.
    return _ENDS_ELEMENT.sub(r"\\x3c", f"(() => {{\n{_libraries()}\n{ours}}})();\n")


def _libraries() -> str:
    """Return Vega and what belongs to it as one script, kept in the user's cache: making it takes 3 s."""
    import platformdirs

    version = importlib.metadata.version("vl-convert-python")
    kept = Path(platformdirs.user_cache_dir("melt", appauthor=False)) / "charts" / f"vega-{version}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return _bundled(kept)


def _bundled(kept: Path) -> str:
    import vl_convert

    from melt.store.files import replace_durably

    script: str = vl_convert.javascript_bundle(_INTERPRETED)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(kept, script.encode())
    except OSError:
        # A cache that cannot be written costs 3 s the next time, and nothing else.
        pass
    return script
