"""Write docs/data_sets.md from what ``near_duplicates``, ``label_noise``, ``label_queue`` and ``class_sets`` left in
benchmarks/results.

``python -m benchmarks.data_sets_page``
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
#: Ways to choose stars for a label.
QUEUES = {"random": "at random", "doubt": "by doubt alone", "queue": "by `label-queue`"}


def read(name: str) -> dict[str, Any]:
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def part(name: str) -> str:
    return (DOCS / "parts" / f"{name}.md").read_text(encoding="utf-8").rstrip()


def near_duplicates() -> list[str]:
    found = read("near_duplicates")
    lines = ["`python -m benchmarks.near_duplicates --data DATA`:", "",
             "| set | objects | fingerprint | pairs |", "|---|---:|---:|---|"]  # fmt: skip
    for name, one in found.items():
        pairs = "; ".join(f"{a} = {b} ({likeness})" for a, b, likeness in one["pairs"]) or "none"
        lines.append(f"| {name} | {one['n']:,} | {one['told']:,} | {pairs} |")
    lines += ["", "| set | change | copies found | joined to another |", "|---|---|---|---:|"]
    for name, one in found.items():
        for change, copies in one["copies"].items() if one["told"] >= 20 else ():
            lines.append(f"| {name} | {change} | {copies['found']} of {copies['n']} | {copies['wrong']} |")
    return lines


def label_noise() -> list[str]:
    found = read("label_noise")
    lines = ["`python -m benchmarks.label_noise --data DATA`: variable stars of EROS-1, four classes by eye, answers of",
             "boosted trees out of fold. Labels that were wrong already count as false finds.", "",
             "| labels flipped | stars | suspected | of these flipped (precision) | flipped ones found (recall) |",
             "|---|---:|---:|---|---|"]  # fmt: skip
    for share, one in sorted(found.items(), key=lambda pair: float(pair[0])):
        precision = "" if not one["flipped"] else f"{one['precision']:.3f}"
        recall = "" if not one["flipped"] else f"{one['recall']:.3f}"
        lines.append(f"| {float(share):.0%} | {one['n']:,} | {one['suspected']} | {precision} | {recall} |")
    return lines


def label_queue() -> list[str]:
    found = read("label_queue")
    before, low, high = found["before"]
    lines = [f"`{found['command']}`: macro-F1 of {found['seeds']} trainings on {found['n_test']} stars that lend no label",
             f"(before: {before:.3f} [{low:.3f}, {high:.3f}]); {found['n_pool']:,} stars to choose from.", "",
             "| labels | chosen | macro-F1 | more than at random | classes of the first draw |",
             "|---:|---|---|---|---|"]  # fmt: skip
    for labels, ways in found["labels"].items():
        for way, one in ways.items():
            score, more = ("{:.3f} [{:.3f}, {:.3f}]".format(*one[name]) for name in ("macro_f1", "over_random"))
            kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(one["classes"].items()))
            lines.append(f"| {labels} | {QUEUES[way]} | {score} | {'' if way == 'random' else more} | {kinds} |")
    return lines


def class_sets() -> list[str]:
    found = read("class_sets")
    if not found:
        return []
    lines = [f"`python -m benchmarks.class_sets --data DATA`, level {found['level']:.0%}:", "",
             "| objects | class | n | sets of the best answer with the true class | mean size | empty |",
             "|---|---|---:|---|---:|---:|"]  # fmt: skip
    for name, answers in found["sets"].items():
        for kind, one in answers["best_"].items():
            share, low, high = one["coverage"]
            lines.append(
                f"| {name} | {kind} | {one['n']} | {share:.3f} [{low:.3f}, {high:.3f}] | {one['mean_size']:.2f} | "
                f"{one['empty']:.0%} |"
            )
    return lines


def main() -> None:
    text = [part("data_sets"), "", *near_duplicates(), "", part("data_sets_labels"), "", *label_noise(), "",
            part("data_sets_queue"), "", *label_queue(), "", part("data_sets_sets"), "", *class_sets()]  # fmt: skip
    (DOCS / "data_sets.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")
    print("wrote docs/data_sets.md")


if __name__ == "__main__":
    main()
