"""The report of a retraining for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def readable(report: Mapping[str, Any]) -> str:
    """Write the report as Markdown.

    Parameters
    ----------
    report : mapping
        From ``finetune.retrain.run_retrain``.

    Returns
    -------
    str
        A page.
    """
    lines = [f"# Retraining of {report['task']}: {report['outcome']}", ""]
    lines += [f"Snapshot `{report['snapshot']}`. It was done because:", ""]
    lines += [f"- {reason}" for reason in report["reasons"]]
    if "error" in report:
        lines += ["", f"It failed, and production stays: {report['error']}"]
    if "candidate" in report:
        lines += ["", f"Candidate `{report['candidate']}`, trained from `{report.get('start') or 'nothing'}`:"]
        lines += [f"{name} {count}" for name, count in report.get("trained", {}).items()]
    lines += _classes(report)
    gate = report.get("gate", {})
    if gate:
        lines += ["", "## Frozen test", "", f"{gate['n']} objects that neither model has seen.", ""]
        lines += _differences("candidate minus production", gate.get("differences", {}))
        lines += [f"- refused: {reason}" for reason in gate["refused"]]
    held = report.get("held_out", {})
    if held.get("n"):
        lines += ["", "## New objects, held out", "", f"{held['n']} objects.", ""]
        lines += _figures(held["metrics"])
        against = held.get("against", {})
        lines += _differences("candidate minus former production, best answer", against.get("best", {}))
    return "\n".join(lines) + "\n"


def _classes(report: Mapping[str, Any]) -> list[str]:
    lines = []
    if report.get("added"):
        lines += ["", "## Added classes", "", "On objects that were not trained on:", ""]
        lines += ["| class | objects | it was taught by | found as taught | found now | others | so taught | so now |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for name, one in report["added"].items():
            before, now = one["taught"], one["full"]
            cells = [name, one["objects"], one["examples"], before["found"], now["found"], one["others"]]
            lines.append(f"| {' | '.join(map(str, [*cells, before['false'], now['false']]))} |")
        lines += ["", "The last columns count others that are named so."]
    if report.get("waiting"):
        lines += ["", "## Classes that are not full ones", ""]
    for name, why in report.get("waiting", {}).items():
        count = report.get("taught", {}).get(name, 0)
        stays = f"stays taught, by {count} examples" if count else "is not known to this model"
        lines.append(f"- {name}: {why}; it {stays}")
    return lines


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name for figures in metrics.values() for name in figures))
    lines = ["| figure | learned | classical | best |", "|---|---|---|---|"]
    for name in names:
        cells = [_cell(metrics.get(kind, {}).get(name)) for kind in ("learned", "baseline", "best")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _differences(title: str, differences: Mapping[str, Any]) -> list[str]:
    if not differences:
        return []
    lines = [f"| figure | {title}, 95 % |", "|---|---|"]
    return [*lines, *(f"| {name} | {_cell(value)} |" for name, value in differences.items()), ""]


def _cell(value: float | Sequence[float | None] | None) -> str:
    if isinstance(value, list | tuple):
        if value[0] is None:
            return ""
        middle, low, high = (f"{v:.4g}" if v is not None else "?" for v in value)
        return f"{middle} [{low}, {high}]"
    return "" if value is None else f"{value:.4g}"
