"""Specifications as files: a picture for a document (.svg, .png), or a page that opens offline (.html)."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from melt.errors import UsageError
from melt.report.charts.script import page_script
from melt.report.charts.text import plain, script_json
from melt.report.charts.theme import DARK, LIGHT, Spec, Theme
from melt.store.files import whole_file

__all__ = ["Spec", "chart_element", "check_path", "html_text", "page_script", "png_bytes", "svg_text", "write_chart"]

_PNG_SCALE = 2.0
"""Pixels of a PNG for each of the drawing: sharp on screens of today and in print."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ --paper: {light.paper}; --ink: {light.ink}; --line: {light.grid}; font: 14px/1.4 {font}; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: {dark.paper}; --ink: {dark.ink}; --line: {dark.grid}; }}
}}
body {{ margin: 1rem auto; max-width: 70rem; padding: 0 1rem; background: var(--paper); color: var(--ink); }}
#vg-tooltip-element {{ display: none; }}
#vg-tooltip-element.visible {{ display: block; position: fixed; z-index: 1000; padding: .4rem .6rem; max-width: 26rem;
  background: var(--paper); color: var(--ink); border: 1px solid var(--line); border-radius: 4px; font-size: 12px;
  overflow-wrap: anywhere; }}
#vg-tooltip-element h2 {{ margin: 0 0 .2rem; font-size: 13px; }}
#vg-tooltip-element td.key {{ padding-right: .6rem; opacity: .75; vertical-align: top; }}
</style>
</head>
<body>
{chart}
<script>{script}</script>
</body>
</html>
"""


def check_path(path: Path) -> None:
    """Raise UsageError where no picture can be written under this name: before anything is measured for it."""
    if os.path.isdir(path):  # noqa: PTH112 - False, not an error, where no name could be this long
        raise UsageError(f"{path} is a folder: name a file in it")
    if path.suffix.lower() not in _WRITERS:
        known = ", ".join(_WRITERS)
        raise UsageError(f"{path}: the suffix says what kind of picture is written: choose one of {known}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}: make it, or name another")


def write_chart(spec: Spec, path: Path, *, theme: Theme = LIGHT) -> None:
    """Write a picture in the form that its suffix names; the file appears whole or not at all.

    A page has both themes and follows its reader's; `theme` is that of the other forms. Raises UsageError, StoreError.
    """
    check_path(path)
    data = _WRITERS[path.suffix.lower()](spec, theme)
    with whole_file(path) as out:
        out.write(data)


def svg_text(spec: Spec, theme: Theme = LIGHT) -> str:
    """Return the picture as SVG, with its texts as text."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(spec, config=theme.config(), allowed_base_urls=[])
    return svg


def png_bytes(spec: Spec, theme: Theme = LIGHT) -> bytes:
    """Return the picture as PNG, two pixels for each of the drawing."""
    import vl_convert

    png: bytes = vl_convert.vegalite_to_png(spec, config=theme.config(), scale=_PNG_SCALE, allowed_base_urls=[])
    return png


def html_text(spec: Spec, *, title: str) -> str:
    """Return a page with one chart, which needs no other file and may load none."""
    chart, name = chart_element(spec, name=title), html.escape(plain(title))
    font = LIGHT.config()["font"]
    return _PAGE.format(title=name, chart=chart, script=page_script(), light=LIGHT, dark=DARK, font=font)


def chart_element(spec: Spec, *, name: str) -> str:
    """Return the element of a page that `page_script` fills with the chart; `name` is read to those who cannot see."""
    label = html.escape(plain(name), quote=True)
    data = script_json(spec)
    script = f'<script type="application/json">{data}</script>'
    return f'<div class="melt-chart" role="figure" aria-label="{label}">{script}</div>'


def _svg(spec: Spec, theme: Theme) -> bytes:
    return svg_text(spec, theme).encode()


def _html(spec: Spec, theme: Theme) -> bytes:
    heading = spec.get("title", {}).get("text", "melt")
    title = heading if isinstance(heading, str) else " ".join(heading)
    return html_text(spec, title=title).encode()


_WRITERS: Mapping[str, Callable[[Spec, Theme], bytes]] = MappingProxyType(
    {".svg": _svg, ".png": png_bytes, ".html": _html}
)
