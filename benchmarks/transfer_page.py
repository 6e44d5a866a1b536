"""The page of ``transfer``: tables, and sentences that follow from the intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INTRO = """# Trained on one survey, tested on another

Written by `benchmarks/transfer.py`; the figures are in `benchmarks/results/transfer_<task>.json`. The augmentations are
those of [augmentation](augmentation.md), each alone, with the strength that it has where the user gives none.

One network, one seed, few steps: **this is small**, and no model that ships was trained so. *nothing* is the network
without any augmentation; *own* has the task's own augmentation of batches, as `nightcat train` has where `augment` is not
given; a name has augmented copies of the training objects and nothing else; *own+name* has both. All ways have the same
number of steps; the last state is kept, so that no test object chooses anything. The classical answers were fitted on the
same training objects, without copies. Brackets are 95 % bootstrap over test objects; a gain is over *nothing*, paired,
positive where the other is better, and **bold** where its interval excludes zero. The scatter between seeds is in none of
the intervals, and with so many comparisons one in forty excludes zero on either side by chance.
"""
CLOSING = """## What is not shown

No stamps: the labelled ones at hand are display images of one survey (SDSS) without a pixel scale, so that no other
survey can judge, and of the augmentations only seeing, pixels and bands act on them.
"""


def number(found: list[float] | None, bold: bool = False) -> str:
    """A value with its interval."""
    if found is None:
        return ""
    text = f"{found[0]:{'+' if bold else ''}.3g} [{found[1]:.3g}, {found[2]:.3g}]"
    return f"**{text}**" if bold and (found[1] > 0 or found[2] < 0) else text


def table(test: dict[str, Any], ways: list[str]) -> list[str]:
    """All figures of one test, a way a line."""
    names = list(test["figures"])
    heads = [
        f"{n}{', ' + f['unit'] if f['unit'] else ''} ({'higher' if f['higher'] else 'lower'} is better) | gain"
        for n, f in test["figures"].items()
    ]
    lines = [f"| way | {' | '.join(heads)} |", f"|---|{'---|' * (2 * len(names))}"]
    for way in ways:
        cells = []
        for name in names:
            found = test["figures"][name]["ways"][way]
            cells += [number(found["value"]), number(found["gain"], bold=True)]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def verdict(test: dict[str, Any], ways: list[str]) -> list[str]:
    """What the intervals say of each way, over all figures of the test."""
    better, worse, neither = [], [], []
    for way in ways:
        gains = {name: f["ways"][way]["gain"] for name, f in test["figures"].items()}
        up = [name for name, g in gains.items() if g[1] > 0]
        down = [name for name, g in gains.items() if g[2] < 0]
        better += [f"{way} ({', '.join(up)})"] if up else []
        worse += [f"{way} ({', '.join(down)})"] if down else []
        neither += [way] if not up and not down else []
    said = [("Better than without", better), ("Worse than without", worse), ("No difference seen", neither)]
    return [f"- {what}: {'; '.join(names) if names else 'none'}." for what, names in said]


def section(report: dict[str, Any]) -> list[str]:
    """One task."""
    ways = report["ways"]
    lines = [
        f"## `{report['task']}`\n", "```", report["command"], "```",
        f"Trained on {report['trained_on']}; {report['steps']} steps of {report['batch_size']}; "
        f"augmented copies of each object: {report['copies_of_each']}.\n",
    ]  # fmt: skip
    for name, test in report["tests"].items():
        lines += [f"### Tested on {name}, {test['n']} objects\n", *table(test, [*ways, *report["classical"]]), ""]
        lines += [*verdict(test, [w for w in ways if w != "nothing"]), ""]
    return lines


def write_page(results: Path, page: Path) -> Path:
    """All tasks whose figures are there, and the remarks of a person, which are kept."""
    kept = page.read_text(encoding="utf-8").partition("## Remarks\n")[2] if page.is_file() else ""
    lines = [INTRO]
    for path in sorted(results.glob("transfer_*.json")):
        lines += section(json.loads(path.read_text(encoding="utf-8")))
    lines.append(CLOSING)
    text = "\n".join(lines) + (f"\n## Remarks\n{kept}" if kept else "")
    page.write_text(text.rstrip() + "\n", encoding="utf-8")
    return page
