"""Explanations as a folder that a person can look at: a picture of each object, the checks, a page."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from finetune.card import interval_text
from finetune.evaluation_page import ReportError
from finetune.explain import Explanations
from finetune.explanation_plots import draw_curves, draw_plain
from finetune.jsonfile import write_json
from finetune.page import page, table

REPORT, PAGE, CURVES = "report.json", "index.html", "curves.png"
_PARTS = 15


def write_pages(folder: str | Path, found: Explanations) -> list[Path]:
    """Write ``report.json``, ``index.html``, ``curves.png`` and a picture of each object.

    Parameters
    ----------
    folder : str or Path
        Made where it is not there.
    found : Explanations
        From ``run_explain``.

    Returns
    -------
    list of Path
        What was written, the page first.

    Raises
    ------
    ReportError
        Where matplotlib is not installed; nothing is written then.
    OSError
        Where the folder cannot be written.
    """
    check_plots()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw = (found.task.explain.draw if found.task.explain else None) or draw_plain
    pictures = []
    for number, one in enumerate(found.objects):
        name = re.sub(r"[^A-Za-z0-9.+-]+", "_", one.object_id or one.place[0])[:60]
        pictures.append(_picture(folder / f"{number:03d}_{name}.png", draw, one))
    curves = _picture(folder / CURVES, draw_curves, found.report["targets"])
    write_json(folder / REPORT, found.report)
    path = folder / PAGE
    path.write_text(_page(found, curves, pictures), encoding="utf-8")
    return [path, folder / REPORT, curves, *pictures]


def check_plots() -> None:
    """Find out whether pictures can be drawn.

    Raises
    ------
    ReportError
        Where matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401 - an extra
    except ImportError as error:
        raise ReportError("pictures need the package matplotlib: pip install 'nightcat[report]'") from error


def _picture(path: Path, draw: Any, what: Any) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure, what)
    figure.savefig(path, metadata={"Software": None})
    return path


def _page(found: Explanations, curves: Path, pictures: list[Path]) -> str:
    report = found.report
    model = report["model"]
    lead = (
        f"{found.task.name}, model {model['digest']}, {len(found.objects)} objects, {report['method']}. "
        f"Attributions are differences from {report['nothing']}. Red speaks for the answer (or for a larger number), "
        "blue against it."
    )
    sections = {"Can they be believed?": _checks(report) + _link(curves, "deletion curves")}
    for name, target in report["targets"].items():
        sections[f"What decided: {name}"] = _decided(target)
    sections["Objects"] = "".join(_link(path, path.stem) for path in pictures)
    return page(f"Explanations: {found.task.name}", lead, sections)


def _checks(report: dict[str, Any]) -> str:
    rows = []
    for name, target in report["targets"].items():
        complete, shuffled = target["completeness"], target["shuffled_weights"]
        gains = (
            interval_text(target["faithfulness"][f"{kind}_gain"]) for kind in ("deletion", "insertion", "strongest")
        )
        off = f"{complete['share']:.2%}" if complete else ""
        rows.append([name, target["n"], off, *gains, *(interval_text(shuffled[k]) for k in ("signed", "absolute"))])
    head = [
        "answer", "n", "does not add up by", "gain by deletion", "by insertion", "strongest features alone",
        "correlation with shuffled weights", "without signs",
    ]  # fmt: skip
    said = "".join(
        f"<li>{html.escape(name)}: {html.escape(text)}</li>"
        for name, target in report["targets"].items()
        for text in target["verdicts"]
    )
    return table(head, rows) + f"<ul>{said}</ul>"


def _decided(target: dict[str, Any]) -> str:
    rows = [
        [part["part"], part["n"], f"{part['share']:.1%}", f"{part['share_of_inputs']:.1%}", f"{part['mean']:+.3g}"]
        for part in target["parts"][:_PARTS]
    ]
    unit = f", {target['unit']}" if target["unit"] else ", log-odds"
    text = table(["part", "objects", "share of the attributions", "share of the inputs", f"mean{unit}"], rows)
    kinds = [
        [kind["kind"], kind["n"], ", ".join(f"{p['part']} {p['share']:.0%}" for p in kind["parts"])]
        for kind in target["kinds"]
    ]
    return text + (table(["kind", "objects", "parts, with their shares"], kinds) if kinds else "")


def _link(path: Path, text: str) -> str:
    name = html.escape(path.name)
    return f'<figure><img src="{name}" alt="{html.escape(text)}"><figcaption>{html.escape(text)}</figcaption></figure>'
