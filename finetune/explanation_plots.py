"""Explanations as pictures: the data, coloured by what each datum did to the answer. Red speaks for it, blue against.

Nothing here imports matplotlib before it draws: it is the extra ``report``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from finetune.explain import Explained, Target

_MAP = "coolwarm"
_GREY = "#888888"
_MARKERS = ("v", "o", "s", "D", "^")
_NUMBERS = 14  #: Measured numbers that are drawn.
_LABELS = 7  #: Lines that are named.
_QUANTILE = 0.995  #: Of the absolute attributions: where the colours end.


def _limit(values: np.ndarray) -> float:
    """Attribution at which the colours end."""
    return float(np.quantile(np.abs(values), _QUANTILE)) if values.size else 0.0


def _norm(values: np.ndarray) -> Any:
    from matplotlib.colors import Normalize

    limit = _limit(values) or 1e-12
    return Normalize(-limit, limit)


def shown_value(value: float, unit: str) -> str:
    """A network's number as a person reads it.

    Parameters
    ----------
    value : float
        As the network has it.
    unit : str
        Its unit; log-odds have none, and are shown as a probability too.

    Returns
    -------
    str
        Such as ``"5770 K"`` for a ``dex(K)``.
    """
    if unit == "dex(K)":
        return f"{10 ** min(value, 6.0):.0f} K"
    if unit:
        return f"{value:.2f}"
    return f"{value:+.2f} (p = {1 / (1 + np.exp(-np.clip(value, -60, 60))):.2g})"


def _heading(target: Target) -> str:
    return (
        f"{target.name} = {shown_value(target.value, target.unit)};  with nothing seen: "
        f"{shown_value(target.nothing, target.unit)}"
    )


def _name(found: Explained) -> str:
    source, hdu, row = found.place
    name = found.object_id or "object"
    return name if source.startswith(name) else f"{name}   ({source}{f' [{hdu}]' if hdu else ''}, row {row})"


def draw_spectrum(figure: Any, found: Explained) -> None:
    """Draw a spectrum once for each answer, its strongest lines named.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    found : Explained
        With the array ``flux``.
    """
    figure.set_size_inches(13, 0.6 + 3.4 * len(found.targets))
    figure.suptitle(_name(found), fontsize=11)
    rows = figure.add_gridspec(2 * len(found.targets), 1, height_ratios=[3, 1] * len(found.targets))
    where = found.places["flux"]
    for number, target in enumerate(found.targets):
        above = figure.add_subplot(rows[2 * number])
        below = figure.add_subplot(rows[2 * number + 1], sharex=above)
        values = target.attribution["flux"]
        _coloured_line(above, where.position, where.value, values)
        low, high = np.quantile(where.value, [0.001, 0.999])
        above.set(ylim=(min(low - 0.05 * high, 0), high * 1.5), ylabel="flux", xlim=_ends(where.position))
        above.set_title(_heading(target), fontsize=10, loc="left")
        above.tick_params(labelbottom=False)
        _name_lines(above, found, target)
        edge = 1.1 * max(float(np.abs(values).max()), 1e-12)
        for sign, colour in ((1, "#c0392b"), (-1, "#2a5fb0")):
            below.fill_between(
                where.position, 0, np.where(values * sign > 0, values, 0), step="mid", color=colour, lw=0
            )
        below.axhline(0, color=_GREY, lw=0.5)
        below.set(ylim=(-edge, edge), ylabel=f"{target.unit or 'log-odds'}\nper bin")
        below.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    below.set_xlabel("rest wavelength in vacuum / Angstrom")


def _ends(position: np.ndarray) -> tuple[float, float]:
    return (float(position.min()), float(position.max())) if position.size > 1 else (0.0, 1.0)


def _coloured_line(axis: Any, x: np.ndarray, y: np.ndarray, values: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    middle = (x[1:] + x[:-1]) / 2
    height = (y[1:] + y[:-1]) / 2
    left = np.stack([middle[:-1], height[:-1]], 1)
    right = np.stack([middle[1:], height[1:]], 1)
    segments = np.stack([left, np.stack([x[1:-1], y[1:-1]], 1), right], 1)
    whole = np.diff(x)[:-1] < 3 * np.median(np.diff(x)) if x.size > 2 else np.ones(0, bool)  # no line over a gap
    axis.plot(x, y, color="#cccccc", lw=0.5, zorder=1)
    axis.add_collection(
        LineCollection(segments[whole], array=values[1:-1][whole], cmap=_MAP, norm=_norm(values), lw=1.4, zorder=2)
    )


def _name_lines(axis: Any, found: Explained, target: Target) -> None:
    """Names of the lines that decided, with their sums, in rows so that they do not hide each other."""
    from finetune.explain_report import strongest

    where = found.places["flux"]
    part = np.array(where.part, dtype=object)
    labels = []
    for name, total in strongest(found, target, _LABELS):
        inside = part == name
        weight = np.abs(target.attribution["flux"][inside]) + 1e-12
        labels.append((float(np.average(where.position[inside], weights=weight)), name, total))
    width = np.ptp(where.position) or 1.0
    taken: list[float] = []
    for at, name, total in sorted(labels):
        row = next((i for i, last in enumerate(taken) if at - last > 0.085 * width), len(taken))
        taken[row : row + 1] = [at]
        height = 0.97 - 0.105 * row
        axis.axvline(at, color=_GREY, lw=0.5, ls=":", zorder=0)
        axis.text(
            at, height, f"{name}\n{total:+.2g}", transform=axis.get_xaxis_transform(), ha="center", va="top",
            fontsize=7, color="#c0392b" if total > 0 else "#2a5fb0", linespacing=0.95,
            bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.5},
        )  # fmt: skip


def draw_light_curve(figure: Any, found: Explained) -> None:
    """Draw a light curve against phase and time, beside the measured numbers.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    found : Explained
        With the arrays ``magnitude`` and ``known``.
    """
    figure.set_size_inches(13, 5.4 * len(found.targets))
    figure.suptitle(_name(found), fontsize=11)
    grid = figure.add_gridspec(2 * len(found.targets), 2, width_ratios=[2, 1])
    where, prepared = found.places["magnitude"], found.prepared
    visit, _ = np.nonzero(where.group >= 0)
    period = found.measured.get("period")
    for number, target in enumerate(found.targets):
        values = target.attribution["magnitude"]
        folded = figure.add_subplot(grid[2 * number, 0])
        _points(folded, 2 * prepared["phase"][visit, 0], found, values)
        folded.set(xlabel=f"cycles of the period, {period:.5g} d" if period else "cycles (no period)", xlim=(0, 2))
        folded.set_title(_heading(target), fontsize=10, loc="left")
        timed = figure.add_subplot(grid[2 * number + 1, 0])
        seen = _points(timed, where.position, found, values)
        timed.set_xlabel("days from the middle")
        bar = figure.colorbar(seen, ax=[folded, timed], shrink=0.8, pad=0.01)
        bar.set_label(f"attribution to {target.name}, log-odds", fontsize=8)
        _bars(figure.add_subplot(grid[2 * number : 2 * number + 2, 1]), found, target, "known")


def _points(axis: Any, x: np.ndarray, found: Explained, values: np.ndarray) -> Any:
    """Deviations from the median, brighter above, one marker for each filter."""
    where, norm = found.places["magnitude"], _norm(values)
    shown = None
    for marker, name in zip(_MARKERS, dict.fromkeys(sorted(where.part)), strict=False):
        inside = np.array(where.part) == name
        shown = axis.scatter(
            x[inside], where.value[inside], c=values[inside], cmap=_MAP, norm=norm, marker=marker, s=26,
            edgecolors="#555555", linewidths=0.3, label=name.rsplit(" ", 1)[-1],
        )  # fmt: skip
    if not axis.yaxis_inverted():
        axis.invert_yaxis()
    axis.set_ylabel("magnitude from the median,\nin units of its scatter", fontsize=8)
    axis.legend(fontsize=7, ncols=5, loc="best")
    return shown if shown is not None else axis.scatter([], [], c=[], cmap=_MAP, norm=norm)


def _bars(axis: Any, found: Explained, target: Target, array: str) -> None:
    """The strongest measured numbers, with their values."""
    where, values = found.places[array], target.attribution[array]
    order = np.argsort(-np.abs(values), kind="stable")[:_NUMBERS][::-1]
    colours = ["#c0392b" if values[i] > 0 else "#2a5fb0" for i in order]
    axis.barh(range(order.size), values[order], color=colours)
    axis.set_yticks(range(order.size), [f"{where.part[i]} = {where.value[i]:.3g}" for i in order], fontsize=7)
    axis.axvline(0, color=_GREY, lw=0.5)
    axis.set_xlabel(f"attribution to {target.name}, {target.unit or 'log-odds'}", fontsize=8)
    axis.set_title(f"measured numbers, all {values.size} together {values.sum():+.2f}", fontsize=9)


def draw_stamp(figure: Any, found: Explained) -> None:
    """Draw both views of a stamp, with and without their attributions, beside the measured numbers.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    found : Explained
        With the arrays ``views`` and ``known``.
    """
    from scipy.ndimage import gaussian_filter

    figure.set_size_inches(13, 6.4 * len(found.targets))
    figure.suptitle(_name(found), fontsize=11)
    grid = figure.add_gridspec(2 * len(found.targets), 3, width_ratios=[1, 1, 1.1])
    where = found.places["views"]
    side = found.prepared["views"].shape[-1]
    for number, target in enumerate(found.targets):
        values = target.attribution["views"]
        for view, name in enumerate(dict.fromkeys(where.part)):
            inside = np.array(where.part) == name
            across = int(np.sqrt(inside.sum()))
            map_ = values[inside].reshape(across, across)
            shown = found.prepared["views"][view].transpose(1, 2, 0)
            plain = figure.add_subplot(grid[2 * number + view, 0])
            plain.imshow(shown.astype(np.uint8))
            plain.set_title(name, fontsize=9)
            over = figure.add_subplot(grid[2 * number + view, 1])
            grey = np.sqrt(shown.mean(-1))
            over.imshow(grey, cmap="gray", vmin=0, vmax=max(float(grey.max()), 1))
            smooth = gaussian_filter(map_, 0.7)  # for the eye alone: the table has the blocks as they are
            strength = np.clip(np.abs(smooth) / (_limit(smooth) or 1e-12), 0, 1) ** 0.7
            over.imshow(
                smooth, cmap=_MAP, norm=_norm(smooth), extent=(-0.5, side - 0.5, side - 0.5, -0.5),
                interpolation="bilinear", alpha=0.85 * strength,
            )  # fmt: skip
            over.set_title(f"{name}: {map_.sum():+.2f}", fontsize=9)
            for axis in (plain, over):
                axis.set(xticks=[], yticks=[])
        bars = figure.add_subplot(grid[2 * number : 2 * number + 2, 2])
        _bars(bars, found, target, "known")
        heading = _heading(target).replace(";  ", ";\n")
        bars.set_title(f"{heading}\n{bars.get_title()}", fontsize=9)


def draw_plain(figure: Any, found: Explained) -> None:
    """Draw each array of a task that has no picture of its own.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    found : Explained
        Any.
    """
    arrays = list(found.places)
    figure.set_size_inches(11, 2.6 * len(arrays) * len(found.targets) + 0.6)
    figure.suptitle(_name(found), fontsize=11)
    axes = np.atleast_1d(figure.subplots(len(arrays) * len(found.targets), 1)).ravel()
    for axis, (target, name) in zip(axes, [(t, a) for t in found.targets for a in arrays], strict=True):
        where, values = found.places[name], target.attribution[name]
        x = where.position if np.isfinite(where.position).all() and values.size else np.arange(values.size)
        axis.bar(x, values, width=_step(x), color=np.where(values > 0, "#c0392b", "#2a5fb0"))
        axis.set_title(f"{name}: {_heading(target)}", fontsize=9, loc="left")
        axis.set_ylabel(f"attribution, {target.unit or 'log-odds'}", fontsize=8)


def _step(x: np.ndarray) -> float:
    return float(np.median(np.diff(np.unique(x)))) if np.unique(x).size > 1 else 1.0


def draw_curves(figure: Any, targets: dict[str, Any]) -> None:
    """Draw what is left of the answers while inputs are taken away, in each order.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    targets : dict
        Of a report.
    """
    figure.set_size_inches(max(4.4 * len(targets), 5.5), 4)
    axes: list[Any] = list(np.atleast_1d(figure.subplots(1, len(targets))).ravel())
    styles = {
        "most": ("#c0392b", "most important first"), "least": ("#2a5fb0", "least important first"),
        "random": (_GREY, "random order"), "strongest": ("#b8860b", "strongest feature first, no model"),
    }  # fmt: skip
    for axis, (name, report) in zip(axes, targets.items(), strict=True):
        found = report["faithfulness"]
        for order, (colour, label) in styles.items():
            axis.plot(found["fractions"], found["curves"][order], color=colour, label=label, marker=".", lw=1.2)
        axis.axhline(0, color=_GREY, lw=0.5)
        axis.set(xlabel="share of the inputs taken away", title=f"{name}, {report['n']} objects", xlim=(0, 1))
        axis.set_ylabel(
            f"what is left of the difference to the\nneutral answer, {report['unit'] or 'log-odds'}", fontsize=8
        )
    axes[0].legend(fontsize=7)
