"""Write the model card of the morphology bundle from what was measured.

``python -m benchmarks.morphology_card --bundle BUNDLE --report REPORT.json --folds FOLDS.json --out CARD.md``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.morphology_folds import report
from finetune.bundle import load_bundle
from finetune.card import model_card


def main() -> None:
    """Write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--bundle", "--report", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--folds", type=Path)
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    measured = json.loads(args.report.read_text())
    title = "Another set: Galaxy Zoo 1 (elliptical, spiral, edge-on, merger), never trained on"
    text = model_card(bundle.task(), bundle.info, bundle.digest, {title: measured["gz1"]})
    if args.folds and args.folds.exists():
        lines = [
            "## Real images, held out fold by fold (weights thrown away)",
            "",
            *report(json.loads(args.folds.read_text())),
        ]
        text = text.rstrip() + "\n\n" + "\n".join(lines) + "\n"
    domain = measured.get("domain_auc")
    if domain:
        text += "\n## Simulated or real?\n\n" + "".join(f"- {k}: AUC {v:.4f}\n" for k, v in domain.items())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text)


if __name__ == "__main__":
    main()
