"""An evaluation as a page with plots, and the same as JSON beside it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.audit import warnings
from finetune.breakdown import Axis, break_down
from finetune.card import interval_text, number_text
from finetune.curves import class_curves
from finetune.embedding_map import draw_map, flatten
from finetune.embedding_space import EmbeddingSpace
from finetune.evaluate import ANSWERS
from finetune.evaluation_plots import COLOURS, image, panels, share_plot, size_plot, sky_plot
from finetune.jsonfile import write_json
from finetune.page import page, table
from finetune.reports import residuals
from finetune.task import Example, Row, Task
from transforms.flags import bits

TITLES = {"learned": "learned", "baseline": "classical", "best": "best"}
_DRAWS = 200
_SUSPECTS = 25  #: Suspect labels that a page shows.


class ReportError(ValueError):
    """A page cannot be made; the message says what is missing."""


def details(
    task: Task, rows: Sequence[Row], examples: Sequence[Example], axes: Sequence[Axis], *, seed: int = 0
) -> dict[str, Any]:
    """What a page shows beyond the figures of merit.

    Parameters
    ----------
    task : Task
        The task.
    rows : sequence of dict
        From ``answers``: with the measured columns.
    examples : sequence of Example
        The objects.
    axes : sequence of Axis
        From ``find_axes``.
    seed : int
        Of the bootstraps.

    Returns
    -------
    dict
        ``curves`` by answer and class (classifiers), and ``breakdown``.
    """
    labels, groups = [e.labels for e in examples], [e.group for e in examples]
    curves = {
        answer: class_curves(task, rows, labels, groups, prefix, seed=seed, draws=_DRAWS)
        for answer, prefix in ANSWERS.items()
        if task.classes
    }
    return {
        "curves": {answer: found for answer, found in curves.items() if found},
        "breakdown": break_down(task, rows, examples, axes, seed=seed),
    }


def write_page(
    folder: str | Path,
    task: Task,
    report: Mapping[str, Any],
    rows: Sequence[Row],
    examples: Sequence[Example],
    axes: Sequence[Axis],
    title: str,
    place: str = "",
) -> Path:
    """Write ``index.html`` with its plots inside, and ``report.json``.

    Parameters
    ----------
    folder : str or Path
        Made where it is not there.
    task : Task
        The task.
    report : mapping
        From ``evaluate``, with ``details`` added.
    rows, examples : sequence
        What it was made from, for the plots.
    axes : sequence of Axis
        Against which residuals are drawn.
    title : str
        Heading.
    place : str
        From ``draw_place``.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ReportError
        Where matplotlib is not installed.
    OSError
        Where the folder cannot be written.
    """
    check_plots()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sections = {
        "Figures": _figures(report),
        "Classes": "".join(_classes(report)) if report.get("classes") else "",
        "Sets of classes": "".join(_sets(report["class_sets"])) if report.get("class_sets") else "",
        "Where classes are right": "".join(_right(task, rows, examples, axes)) if report.get("classes") else "",
        "Residuals": "".join(_errors(rows, examples, axes, report)),
        "Parts that fall behind": "".join(_audit(report["audit"])) if report.get("audit", {}).get("axes") else "",
        "Parts of the objects": "".join(_breakdown(report)),
        "Labels in doubt": "".join(_suspects(report["suspect_labels"])) if report.get("suspect_labels") else "",
        "Where the objects lie in the embedding": place,
    }
    text = page(title, _lead(task, report), {name: part for name, part in sections.items() if part})
    write_json(folder / "report.json", report)
    path = folder / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


def check_plots() -> None:
    """Make sure that plots can be drawn.

    Raises
    ------
    ReportError
        Where matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401 - the plots need it, and it is an extra
    except ImportError as error:
        raise ReportError("a page with plots needs the package matplotlib: pip install 'nightcat[report]'") from error


def draw_place(
    task: Task, space: EmbeddingSpace, vectors: Sequence[Any], rows: Sequence[Row], examples: Sequence[Example]
) -> str:
    """The map of the objects that a model is judged on, by their labels.

    Parameters
    ----------
    task : Task
        The task.
    space : EmbeddingSpace
        Of the model.
    vectors : sequence of ndarray or None
        Embeddings; None where the model says nothing about an object.
    rows : sequence of dict
        From ``answers``.
    examples : sequence of Example
        The objects.

    Returns
    -------
    str
        HTML; empty where there is nothing to show.
    """
    there = [i for i, one in enumerate(vectors) if one is not None]
    if not there:
        return ""
    label = task.label_columns[0]
    values = [examples[i].labels.get(label) for i in there]
    novel = [bool(int(rows[i].get("flags") or 0) & bits("NOVEL")) for i in there]
    taught = [rows[i].get("taught_class") for i in there]
    points = flatten(space, np.stack([np.asarray(vectors[i]) for i in there]))
    return image(draw_map(space, points, values, novel, taught, label), f"where the objects lie, by {label}")


def _lead(task: Task, report: Mapping[str, Any]) -> str:
    model, data = report.get("model", {}), report.get("data", {})
    fingerprint = str(data.get("fingerprint", ""))[:16]
    deviations = report.get("breakdown", {}).get("deviations", [])
    hidden = len({(d["axis"], d["part"]) for d in deviations if d["answer"] == "best"})
    deviate = "parts deviate" if hidden > 1 else "part deviates"
    warning = f" {hidden} {deviate} from the average; see below." if hidden else ""
    return (
        f"{task.description} Model {model.get('digest', '')}, {report.get('n', 0)} objects in "
        f"{report.get('groups', 0)} groups, data {fingerprint}. Intervals are 95 % of a bootstrap over groups.{warning}"
    )


def _figures(report: Mapping[str, Any]) -> str:
    metrics, before = report.get("metrics", {}), report.get("untrained", {})
    against, apart = report.get("against", {}), report.get("differences", {}).get("best - baseline", {})
    names = list(dict.fromkeys(name for figures in metrics.values() for name in figures))
    head = ["figure", *(["before training"] if before else []), *TITLES.values(), "best minus classical"]
    head += [f"best minus {against['digest'][:16]}"] if against else []
    rows = []
    for name in names:
        row = [name, *([number_text(before.get(name))] if before else [])]
        row += [interval_text(metrics.get(answer, {}).get(name)) for answer in TITLES]
        row += [interval_text(apart.get(name), sign=True)]
        row += [interval_text(against.get("best", {}).get(name), sign=True)] if against else []
        rows.append(row)
    return table(head, rows)


def _classes(report: Mapping[str, Any]) -> list[str]:
    parts = []
    curves = report.get("curves", {})
    for answer, found in report["classes"].items():
        rows = []
        for name, values in found["report"].items():
            own = curves.get(answer, {}).get(name, {})
            recall = own.get("recall_at", {})
            counted = (number_text(values[key]) for key in ("precision", "recall", "f1"))
            ranked = (interval_text(own.get(key)) for key in ("roc_auc", "average_precision"))
            rows.append([name, values["support"], *counted, *ranked, *map(interval_text, recall.values())])
        rates = next((list(c["recall_at"]) for c in curves.get(answer, {}).values()), [])
        head = ["class", "n", "precision", "recall", "F1", "area under ROC", "average precision"]
        head += [f"recall at {float(rate):.0%} false positives" for rate in rates]
        parts += [f"<h3>{TITLES[answer]}</h3>", table(head, [[*r, *[""] * (len(head) - len(r))] for r in rows])]
    parts.append(image(_confusions(report["classes"]), "confusion matrices: rows the truth, columns the answer"))
    for key, title, x, y in (
        ("roc", "ROC", "false-positive rate", "recall"),
        ("precision_recall", "precision and recall", "recall", "precision"),
    ):
        if curves:
            parts.append(image(_curve_plot(curves, key, x, y), f"{title} of each class against all others"))
    if report.get("reliability"):
        parts.append(image(_reliability(report["reliability"]), "stated probability against the share that is right"))
    return parts


def _sets(found: Mapping[str, Any]) -> list[str]:
    """Coverage of the sets of each answer, class by class."""
    rows = [
        [TITLES[answer], name, one["n"], interval_text(one["coverage"]),
         *(number_text(one[key]) for key in ("mean_size", "empty"))]
        for answer, part in found.items()
        for name, one in part["classes"].items()
    ]  # fmt: skip
    level = next(iter(found.values()))["level"]
    head = ["answer", "class", "n", "sets with the true class", "mean size", "share empty"]
    lead = f"<p>Sets that shall hold the true class for at least {level:.0%} of the objects of each class.</p>"
    return [lead, table(head, rows), image(size_plot(found), "share of the sets that hold the true class, by class")]


def _right(task: Task, rows: Sequence[Row], examples: Sequence[Example], axes: Sequence[Axis]) -> list[str]:
    """Where classes are right: along what was measured, and on the sky."""
    label = task.label_columns[0]
    truth = [e.labels.get(label) if e.labels.get(label) in task.classes else None for e in examples]
    there = {c.name for c in task.all_columns()}
    right = {
        answer: [
            None if name is None else row[f"{prefix}{label}"] == name for row, name in zip(rows, truth, strict=True)
        ]
        for answer, prefix in ANSWERS.items()
        if f"{prefix}{label}" in there
    }
    along = [(axis.title, axis.unit, axis.values) for axis in _numbers(axes)]
    parts = []
    if along and any(name is not None for name in truth):
        plot = share_plot(right, along, [e.group for e in examples])
        parts.append(image(plot, "share of right classes along what was measured, with 95 % intervals"))
    if "best" in right and _placed(examples):
        hits = {"best class": [None if hit is None else float(hit) for hit in right["best"]]}
        parts.append(image(_on_sky(examples, hits, True), "where on the sky the best class is wrong"))
    return parts


def _suspects(found: Mapping[str, Any]) -> list[str]:
    """The labels that are most likely wrong."""
    lead = (
        f"{found['n']} of {found['judged']} labels are probably wrong, as the {TITLES[found['answer']]} answer has it"
    )
    rows = [
        [one["object_id"] or one["source"], one["label"], *(_said(one[key]) for key in ("given", "suggested")),
         *(number_text(one[key]) for key in ("p_given", "p_suggested", "score"))]
        for one in found["first"][:_SUSPECTS]
    ]  # fmt: skip
    head = ["object", "label", "given", "suggested", "p of the given", "p of the suggested", "score"]
    return [f"<p>{lead}{'; the first' if len(rows) < found['n'] else ''}.</p>", table(head, rows) if rows else ""]


def _said(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _numbers(axes: Sequence[Axis]) -> list[Axis]:
    return [axis for axis in axes if not any(isinstance(v, str) for v in axis.values)]


def _placed(examples: Sequence[Example]) -> bool:
    return sum(e.record.ra is not None and e.record.dec is not None for e in examples) > 1


def _on_sky(examples: Sequence[Example], values: Mapping[str, Sequence[float | None]], wrong: bool) -> Any:
    return sky_plot([e.record.ra for e in examples], [e.record.dec for e in examples], values, wrong)


def _errors(
    rows: Sequence[Row], examples: Sequence[Example], axes: Sequence[Axis], report: Mapping[str, Any]
) -> list[str]:
    labels = list(report.get("errors", {}).get("best", {}))
    if not labels:
        return []
    keys = {
        "n": "n", "bias": "median residual", "mae": "median absolute", "scatter": "1.4826 MAD",
        "within_1_sigma": "within 1 sigma", "within_2_sigma": "within 2 sigma",
    }  # fmt: skip
    shares = {"coverage_68": "within the 68 % interval", "coverage_95": "within the 95 % interval"}
    body = [
        [TITLES[answer], label, *(number_text(values.get(key)) for key in keys),
         *(interval_text(values.get(key)) for key in shares)]
        for answer, found in report["errors"].items()
        for label, values in found.items()
    ]  # fmt: skip
    parts = [table(["answer", "label", *keys.values(), *shares.values()], body)]
    there = _placed(examples)
    places = [("right ascension", "deg", [e.record.ra for e in examples]),
              ("declination", "deg", [e.record.dec for e in examples])] if there else []  # fmt: skip
    along = [(axis.title, axis.unit, axis.values) for axis in _numbers(axes)] + places
    found = {label: residuals(rows, [e.labels for e in examples], "best_", label) for label in labels}
    for label, residual in found.items():
        parts.append(image(_residuals(label, residual, along), f"residuals of the best {label}: running median, 68 %"))
    if there:
        maps = {f"best {label} - truth": residual for label, residual in found.items()}
        parts.append(image(_on_sky(examples, maps, False), "residuals on the sky"))
    return parts


def _breakdown(report: Mapping[str, Any]) -> list[str]:
    found = report.get("breakdown")
    if not found or not found["axes"]:
        return []
    parts = [
        "<p>Of the best answer, with the scatter of parts of that size drawn by chance. A part deviates where a figure "
        "of merit is worse, or a median "
        f"residual larger, than that of all objects, at a chance of {found['level']:.0%} over all "
        f"{found['comparisons']} comparisons. Parts may hold another mix of classes.</p>",
    ]
    rows = [
        [
            found["axes"][d["axis"]]["title"],
            *(d[key] for key in ("part", "n", "figure")),
            *(number_text(d[key]) for key in ("value", "average")),
            f"{d['value'] - d['average']:+.4g} ± {d['error']:.2g}",
        ]
        for d in found["deviations"]
        if d["answer"] == "best"
    ]
    if rows:
        parts.append(table(["property", "part", "n", "figure", "there", "of all", "difference"], rows))
    else:
        parts.append("<p>No part deviates.</p>")
    for axis in found["axes"].values():
        names = list(axis["parts"][0]["best"])
        body = [
            [part["name"], part["n"], *(_with_error(part["best"].get(name)) for name in names)]
            for part in axis["parts"]
        ]
        unit = f", {axis['unit']}" if axis["unit"] else ""
        parts += [f"<h3>{html.escape(axis['title'] + unit)}</h3>", table(["part", "n", *names], body)]
    return parts


def _audit(report: Mapping[str, Any]) -> list[str]:
    """Warnings, then the learned answer of each part before and after the training."""
    said = warnings(report)
    than = " or than before" if report["compared"] else ""
    lead = f"Parts whose {report['answer']} answer is worse than that of all objects{than}, by more than chance"
    parts = [f"<p>{lead}: {'' if said else 'none.'}</p>"]
    parts += [f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in said)}</ul>"] if said else []
    rows = [
        [axis["title"], part["part"], part["n"], name, number_text(figure.get("before")), number_text(figure["after"]),
         interval_text(figure.get("difference"), sign=True)]
        for axis in report["axes"].values()
        for part in axis["parts"]
        for name, figure in part["figures"].items()
    ]  # fmt: skip
    head = ["property", "part", "n", "figure", "before", "after", "difference"]
    return [*parts, table(head, rows)] if report["compared"] else parts


def _confusions(classes: Mapping[str, Any]) -> Any:
    figure, axes = panels(len(classes), 4.6)
    for axis, (answer, found) in zip(axes, classes.items(), strict=True):
        matrix = np.array(found["confusion"], float)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
        names = [name or "none" for name in found["classes"]]
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axis.set_yticks(range(matrix.shape[0]), names[: matrix.shape[0]], fontsize=8)
        axis.set_title(TITLES[answer], fontsize=10)
        for (i, j), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if share[i, j] > 0.5 else "black"
                axis.text(j, i, f"{int(count)}", ha="center", va="center", fontsize=7, color=colour)
    return figure


def _curve_plot(curves: Mapping[str, Any], key: str, x: str, y: str) -> Any:
    names = list(dict.fromkeys(name for found in curves.values() for name in found))
    figure, axes = panels(len(names), 2.6)
    for axis, name in zip(axes, names, strict=True):
        for answer, found in curves.items():
            if name in found:
                axis.plot(
                    *found[name][key], color=COLOURS[answer], label=TITLES[answer], lw=1.3, drawstyle="steps-post"
                )
        axis.set(title=name, xlim=(0, 1), ylim=(0, 1.02), xlabel=x, ylabel=y)
    axes[0].legend(fontsize=7)
    return figure


def _reliability(reports: Mapping[str, Any]) -> Any:
    figure, axes = panels(len(reports), 3.2)
    for axis, (answer, report) in zip(axes, reports.items(), strict=True):
        bins = [b for b in report["bins"] if b["n"]]
        stated, right, n = ([b[key] for b in bins] for key in ("confidence", "accuracy", "n"))
        error = [np.sqrt(max(a * (1 - a), 0.25 / k) / k) for a, k in zip(right, n, strict=True)]
        axis.plot([0, 1], [0, 1], color="#999", lw=1)
        axis.errorbar(stated, right, error, fmt="o", color=COLOURS[answer], ms=4)
        axis.set(title=f"{TITLES[answer]}, ECE {report['ece']:.3f}", xlim=(0, 1), ylim=(0, 1.02))
        axis.set(xlabel="stated probability", ylabel="share right")
    return figure


def _residuals(label: str, residual: Sequence[float | None], along: Sequence[tuple[str, str, Sequence[Any]]]) -> Any:
    figure, axes = panels(max(len(along), 1), 3.4)
    for axis, (title, unit, values) in zip(axes, along, strict=False):
        pairs = [(v, r) for v, r in zip(values, residual, strict=True) if v is not None and r is not None]
        if not pairs:
            continue
        x, y = np.array(pairs, float).T
        reach = max(float(np.quantile(np.abs(y), 0.98)) * 1.3, 1e-12)
        axis.plot(x, np.clip(y, -reach, reach), ".", ms=3, alpha=0.5, color=COLOURS["best"])
        order = np.argsort(x, kind="stable")
        chunks = [c for c in np.array_split(order, max(1, min(10, x.size // 15))) if c.size]
        low, middle, high = np.array([np.quantile(y[c], [0.16, 0.5, 0.84]) for c in chunks]).T
        at = [float(np.median(x[c])) for c in chunks]
        axis.fill_between(at, low, high, alpha=0.25, color=COLOURS["best"], lw=0)
        axis.plot(at, middle, color="black", lw=1.2)
        axis.axhline(0, color="#999", lw=0.8)
        axis.set(xlabel=f"{title} / {unit}" if unit else title, ylabel=f"{label} - truth", ylim=(-reach, reach))
        axis.locator_params(axis="x", nbins=5)
        if x.min() > 0 and x.max() > 30 * x.min():
            axis.set_xscale("log")
    return figure


def _with_error(pair: Sequence[float | None] | None) -> str:
    if not pair or pair[0] is None:
        return ""
    return f"{pair[0]:.4g}" if pair[1] is None else f"{pair[0]:.4g} ± {pair[1]:.2g}"
