"""The model card, written from the bundle and its evaluations: no figure in it is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.audit import warnings
from finetune.bundle import Info
from finetune.task import Task

_NOTES = (("intended_use", "Intended use"), ("data", "Training data and licences"), ("limits", "Limits"))


def model_card(task: Task, info: Info, digest: str, evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a model card.

    Parameters
    ----------
    task : Task
        The task.
    info : Info
        Of the bundle; its notes give use, data, licences and limits, its metrics the first tables.
    digest : str
        Of the bundle.
    evaluations : mapping of str to mapping
        Further evaluations by title.

    Returns
    -------
    str
        Markdown.
    """
    notes = info.data.get("notes", {})
    lines = [f"# Model card: {task.name}", "", task.description, ""]
    for key, title in _NOTES[:2]:
        lines += [f"## {title}", "", *_sentences(notes.get(key)), ""]
    lines += ["## How it was made", "", *_table(("what", "value"), _origin(task, info, digest)), ""]
    if info.metrics.get("n"):
        lines += _evaluation("Held-out objects of the training data", info.metrics)
    for title, evaluation in evaluations.items():
        lines += _evaluation(title, evaluation)
    key, title = _NOTES[2]
    lines += [f"## {title}", "", *_sentences(notes.get(key)), ""]
    return "\n".join(lines)


def _sentences(notes: Sequence[str] | None) -> list[str]:
    return [f"- {note}" for note in notes] if notes else ["Not stated by who trained it."]


def _origin(task: Task, info: Info, digest: str) -> list[tuple[str, str]]:
    options = info.training.get("options", {})
    chosen = ", ".join(f"{k} {options[k]}" for k in ("steps", "batch_size", "learning_rate", "ema") if k in options)
    counts = ", ".join(f"{info.data[k]} {k}" for k in ("train", "validation") if k in info.data)
    origins = ", ".join(f"{name or 'unnamed'} {n}" for name, n in info.data.get("origins", {}).items())
    return [
        ("command", f"`{info.created_by}`" if info.created_by else "not recorded"),
        ("seed", str(info.seed)),
        ("members averaged", str(info.members)),
        ("training", chosen or "not recorded"),
        *_backbone(info.data.get("backbone", {})),
        ("objects", counts or "not recorded"),
        *_augmented(options, info.data.get("augmented", {})),
        ("origins", origins or "not recorded"),
        ("data fingerprint (SHA-256)", f"`{info.data.get('fingerprint', '') or 'not recorded'}`"),
        ("bundle digest (SHA-256)", f"`{digest}`"),
        ("nightcat", info.package_version),
        ("task version", str(info.task_version)),
        ("method", task.reference or "not stated"),
    ]


def _backbone(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not found:
        return []
    digests = ", ".join(f"{name} SHA-256 `{digest}`" for name, digest in found["sha256"].items())
    kind = f" ({found['model_type']})" if found["model_type"] else ""
    return [("backbone", f"{found['name']}{kind}, {digests}")]


def _augmented(options: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not found:
        return []
    changed = ", ".join(f"{name} changed {n}" for name, n in found["changed"].items())
    asked = ",".join(options.get("augment", ()))
    return [("augmentation of training objects", f"`{asked}`: {found['copies']} copies; {changed}")]


def _evaluation(title: str, evaluation: Mapping[str, Any]) -> list[str]:
    n, groups = evaluation.get("n", 0), evaluation.get("groups", 0)
    lines = [f"## {title}", ""]
    if not n:
        return [*lines, "No object to judge on.", ""]
    lines += [
        f"{n} objects in {groups} groups. Brackets: 95 % bootstrap interval over groups, {evaluation.get('draws')} "
        "draws; differences are paired.",
        "",
        *_figures(evaluation),
        "",
    ]
    if evaluation.get("audit"):
        lines += _audit(evaluation["audit"])
    for answer, report in evaluation.get("errors", {}).items():
        lines += _errors(answer, report)
    for answer, report in evaluation.get("classes", {}).items():
        lines += _classes(answer, report)
    for answer, report in evaluation.get("reliability", {}).items():
        lines += _reliability(answer, report)
    if evaluation.get("origins"):
        lines += _origins(evaluation["origins"])
    if evaluation.get("against"):
        lines += _against(evaluation["against"])
    return lines


def _figures(evaluation: Mapping[str, Any]) -> list[str]:
    """Before and after fine-tuning, classical, best, and the differences, one figure a row."""
    metrics, differences = evaluation["metrics"], evaluation["differences"]
    before = evaluation.get("untrained", {})
    names = sorted({name for values in metrics.values() for name in values})
    header = ["figure", *(["before training"] if before else []), "learned", "classical", "best", *differences]
    rows = []
    for name in names:
        row = [name, *([number_text(before.get(name))] if before else [])]
        row += [interval_text(metrics[answer].get(name)) for answer in ("learned", "baseline", "best")]
        row += [interval_text(values.get(name), sign=True) for values in differences.values()]
        rows.append(row)
    return _table(header, rows)


def _audit(report: Mapping[str, Any]) -> list[str]:
    """Parts that fall behind, after the training, of the learned answer."""
    said = warnings(report)
    than = "all objects or than before the training" if report["compared"] else "all objects"
    head = ["### Parts that fall behind", ""]
    if not report["axes"]:
        return [*head, "Too few objects to tell any part from another.", ""]
    rule = f"({report['answer']} answer; chance of a false alarm {report['level']:.0%} in each list of comparisons)"
    if not said:
        return [
            *head,
            f"None of {', '.join(a['title'] for a in report['axes'].values())} is worse than {than} {rule}.",
            "",
        ]
    return [*head, f"Worse than {than} by more than chance {rule}:", "", *(f"- **Warning**: {s}" for s in said), ""]


def _errors(answer: str, report: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not report:
        return []
    keys = ("n", "bias", "mae", "scatter", "within_1_sigma", "within_2_sigma")
    rows = [[name, *(number_text(values.get(key)) for key in keys)] for name, values in report.items()]
    head = ("quantity", "n", "bias", "median absolute error", "1.4826 MAD", "within 1 sigma", "within 2 sigma")
    return [f"### Residuals and coverage of the errors, {answer}", "", *_table(head, rows), ""]


def _classes(answer: str, report: Mapping[str, Any]) -> list[str]:
    keys = ("precision", "recall", "f1", "support")
    rows = [[name, *(number_text(values[key]) for key in keys)] for name, values in report["report"].items()]
    said = [name or "no answer" for name in report["classes"]]
    matrix = [[name, *map(str, row)] for name, row in zip(report["classes"], report["confusion"], strict=False)]
    return [
        f"### By class, {answer}", "", *_table(("class", *keys), rows), "",
        "Confusion (rows: truth, columns: answer).", "", *_table(("truth", *said), matrix), "",
    ]  # fmt: skip


def _reliability(answer: str, report: Mapping[str, Any]) -> list[str]:
    rows = [
        [f"{b['low']:.1f} to {b['high']:.1f}", str(b["n"]), number_text(b["confidence"]), number_text(b["accuracy"])]
        for b in report["bins"]
    ]
    head = ("stated probability", "n", "mean stated", "share right")
    title = f"### Reliability, {answer}"
    return [title, "", f"Expected calibration error {number_text(report['ece'])}.", "", *_table(head, rows), ""]


def _origins(report: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [
        [origin, str(values["n"]), name, *(number_text(values[a].get(name)) for a in ("learned", "baseline", "best"))]
        for origin, values in report.items()
        for name in sorted(values["learned"])
    ]
    return ["### By origin", "", *_table(("origin", "n", "figure", "learned", "classical", "best"), rows), ""]


def _against(report: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, *(interval_text(report[answer].get(name), sign=True) for answer in ("learned", "best"))]
        for name in sorted(report["learned"])
    ]
    title = f"### Minus the model {report['digest']}, paired"
    return [title, "", *_table(("figure", "learned", "best"), rows), ""]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
    ]


def interval_text(figure: Sequence[float | None] | None, sign: bool = False) -> str:
    """A figure with its interval, as a person reads it.

    Parameters
    ----------
    figure : sequence of value, low and high, or None
        Of ``finetune.evaluate``.
    sign : bool
        With a plus sign too.

    Returns
    -------
    str
        Four digits; empty where there is no value.
    """
    if not figure or figure[0] is None:
        return ""
    value, low, high = figure
    form = "+.4g" if sign else ".4g"
    return format(value, form) + ("" if low is None or high is None else f" [{low:{form}}, {high:{form}}]")


def number_text(value: Any) -> str:
    """A number as a person reads it.

    Parameters
    ----------
    value : int, float or None
        Any.

    Returns
    -------
    str
        Four digits of a float; empty for None.
    """
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"
