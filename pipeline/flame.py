"""Stacks as a flame graph: collapsed lines, which other tools read, and a picture that any browser opens."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.sampling import Stack

WIDTH, ROW, LETTER = 1600.0, 18, 6.7
SMALLEST = 0.8  #: Narrower frames are left out of the picture, pixels.
_TICK = 1e-6  #: Seconds of one count of a collapsed line.
#: A thread whose innermost function is one of these does not compute.
_WAITS = ("threading:", "queue:", "selectors:", "socket:", "concurrent.futures.thread:_worker", "pipeline.quiet:_drain")
#: Whose code it is, by the beginning of a frame's name, with a colour.
COLOURS: dict[str, tuple[tuple[str, ...], str]] = {
    "nightcat": (("pipeline.", "transforms.", "finetune."), "#7fb685"),
    "torch": (("torch.",), "#f4a259"),
    "Beam": (("apache_beam.",), "#8cb3d9"),
    "astropy, numpy, scipy, pyarrow": (("astropy.", "numpy.", "scipy.", "pyarrow.", "sep.", "erfa."), "#c9a0dc"),
    "waiting": (_WAITS, "#d5d5d5"),
    "other code": ((), "#efd9a7"),
}
_THREAD, _STAGE = "#e8e8e8", "#4f9d9d"

_SCRIPT = """
const frames = [...document.querySelectorAll('g.f')];
function zoom(x0, w0, depth) {
  for (const g of frames) {
    const x = +g.dataset.x, w = +g.dataset.w, above = +g.dataset.d < depth;
    const inside = above ? x <= x0 + 1e-9 && x + w >= x0 + w0 - 1e-9 : x >= x0 - 1e-9 && x + w <= x0 + w0 + 1e-9;
    g.style.display = inside ? '' : 'none';
    if (!inside) continue;
    const left = above ? 0 : (x - x0) / w0 * WIDTH, wide = above ? WIDTH : w / w0 * WIDTH;
    const rect = g.querySelector('rect'), text = g.querySelector('text');
    rect.setAttribute('x', left); rect.setAttribute('width', Math.max(wide - 0.5, 0.3));
    text.setAttribute('x', left + 3);
    const room = Math.floor((wide - 6) / LETTER), name = g.dataset.n;
    text.textContent = room < 3 ? '' : name.length <= room ? name : name.slice(0, room - 1) + '\\u2026';
  }
}
for (const g of frames) g.addEventListener('click', () => zoom(+g.dataset.x, +g.dataset.w, +g.dataset.d));
"""


@dataclass(slots=True)
class Frame:
    """A function of the picture, called in one place.

    Parameters
    ----------
    name : str
        As it is written.
    seconds : float
        With all that it called.
    inner : dict of str to Frame
        What it called.
    """

    name: str
    seconds: float = 0.0
    inner: dict[str, Frame] = field(default_factory=dict)


def collapsed(stacks: Mapping[Stack, float]) -> str:
    """Stacks in Brendan Gregg's format, which speedscope, inferno and flamegraph.pl read.

    Parameters
    ----------
    stacks : mapping of tuple of str to float
        Seconds of each.

    Returns
    -------
    str
        A line each: frames from the outermost on with semicolons between, a space, microseconds.
    """
    lines = (f"{';'.join(_named(stack))} {round(seconds / _TICK)}" for stack, seconds in stacks.items())
    return "".join(f"{line}\n" for line in sorted(lines))


def _named(stack: Stack) -> Sequence[str]:
    """Without the empty name of a stage, for threads that were in none."""
    return [part for part in stack if part]


def tree(stacks: Mapping[Stack, float]) -> Frame:
    """Put stacks together that begin alike; what is in no stage and waits is left out.

    Parameters
    ----------
    stacks : mapping of tuple of str to float
        Seconds of each.

    Returns
    -------
    Frame
        All of it.
    """
    root = Frame("all threads")
    for stack, seconds in sorted(stacks.items()):
        if not stack[1] and stack[-1].startswith(_WAITS):
            continue
        root.seconds += seconds
        here = root
        for name in _named(stack):
            here = here.inner.setdefault(name, Frame(name))
            here.seconds += seconds
    return root


def picture(stacks: Mapping[Stack, float], title: str, stages: Mapping[str, str]) -> str:
    """Draw the flame graph: threads, their stages, and the functions below them; the width is the time.

    Parameters
    ----------
    stacks : mapping of tuple of str to float
        Seconds of each.
    title : str
        Above it.
    stages : mapping of str to str
        A sentence for each stage.

    Returns
    -------
    str
        SVG that needs nothing else; a click on a frame makes it as wide as the picture, one on the first shows all.
    """
    root = tree(stacks)
    order = list(stages)
    for thread in root.inner.values():
        thread.inner = dict(
            sorted(thread.inner.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else -1)
        )
    shapes: list[str] = []
    depth = _draw(root, 0.0, 0, root.seconds or 1.0, stages, shapes)
    top = 3 * ROW
    height = top + (depth + 1) * ROW + 8
    script = _SCRIPT.replace("WIDTH", f"{WIDTH}").replace("LETTER", f"{LETTER}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height}" width="{WIDTH:.0f}" '
        f'height="{height}" font-family="monospace" font-size="11">\n'
        "<style>g.f{cursor:pointer} g.f:hover rect{stroke:#000;stroke-width:1}</style>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n'
        f'<text x="4" y="16" font-size="14">{html.escape(title)}</text>\n{_legend()}\n'
        f'<g transform="translate(0 {top})">\n'
        + "\n".join(shapes)
        + f"\n</g>\n<script>{_cdata(script)}</script>\n</svg>\n"
    )


def _cdata(text: str) -> str:
    return f"<![CDATA[{text}]]>"


def _legend() -> str:
    parts, x = [], 4.0
    for name, (_, colour) in {"stage": ((), _STAGE), **COLOURS}.items():
        parts.append(f'<rect x="{x:.0f}" y="26" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16:.0f}" y="36">{html.escape(name)}</text>')
        x += 34 + LETTER * len(name)
    return "".join(parts)


def _draw(frame: Frame, x: float, depth: int, total: float, stages: Mapping[str, str], shapes: list[str]) -> int:
    """Add the shapes of a frame and of all below it; the deepest row that was drawn."""
    wide = frame.seconds / total * WIDTH
    if wide < SMALLEST:
        return depth - 1
    shapes.append(_shape(frame, x, wide, depth, total, stages))
    deepest = depth
    for inner in frame.inner.values():
        deepest = max(deepest, _draw(inner, x, depth + 1, total, stages, shapes))
        x += inner.seconds / total * WIDTH
    return deepest


def _shape(frame: Frame, x: float, wide: float, depth: int, total: float, stages: Mapping[str, str]) -> str:
    room = int((wide - 6) / LETTER)
    name = frame.name if len(frame.name) <= room else f"{frame.name[: room - 1]}…" if room >= 3 else ""
    staged = depth == 2 and frame.name in stages
    about = f": {stages[frame.name]}" if staged else ""
    tip = f"{frame.name}{about}\n{frame.seconds:.3f} s, {100 * frame.seconds / total:.1f} %"
    colour = _STAGE if staged else _THREAD if depth < 2 else colour_of(frame.name)
    y = depth * ROW
    return (
        f'<g class="f" data-x="{x:.3f}" data-w="{wide:.3f}" data-d="{depth}" data-n="{html.escape(frame.name)}">'
        f"<title>{html.escape(tip)}</title>"
        f'<rect x="{x:.2f}" y="{y}" width="{max(wide - 0.5, 0.3):.2f}" height="{ROW - 1}" fill="{colour}"/>'
        f'<text x="{x + 3:.2f}" y="{y + 13}">{html.escape(name)}</text></g>'
    )


def colour_of(name: str) -> str:
    """The colour of a function, by whose code it is.

    Parameters
    ----------
    name : str
        ``module:function``.

    Returns
    -------
    str
        As SVG has it.
    """
    for starts, colour in COLOURS.values():
        if name.startswith(starts) and starts:
            return colour
    return COLOURS["other code"][1]
