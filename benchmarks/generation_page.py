"""The page of ``generation``: tables, and sentences that follow from the intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REMARKS = Path(__file__).resolve().parents[1] / "docs" / "parts" / "generation_remarks.md"
INTRO = """# What is generated, and how far it is off

Written by `benchmarks/generation.py`; the figures are in `benchmarks/results/generation.json`.

```
python -m benchmarks.generation --data DATA --work WORK
```

Real data, split by object: a quarter of the RR Lyrae of Stripe 82 and of the MILES stars, by the digest of their names, was
neither pretrained on nor fitted on, and judges. A band, visits or a range is taken out of a file before anything is
measured (the period is found without it, too), and generated. *learned* is the masked model of `nightcat pretrain`,
*classical* a Gaussian process (light curves), or a Gaussian of the nearest training spectra (spectra): the two methods of
`nightcat generate`, with the calibrated errors of `--fit`, which come from other objects. Errors are root mean squares,
averaged over objects; brackets are 95 % bootstrap over objects; a gain is that of the learned over the classical method,
paired, positive where the learned one is better, and **bold** where its interval excludes zero. Coverage counts the noise
of what was held back; 0.683 and 0.950 are the goal.
"""


def number(found: list[float] | None, bold: bool = False) -> str:
    """A value with its interval."""
    if found is None:
        return ""
    text = f"{found[0]:.3g} [{found[1]:.3g}, {found[2]:.3g}]"
    return f"**{text}**" if bold and (found[1] > 0 or found[2] < 0) else text


def holes(found: dict[str, Any]) -> list[str]:
    """One row for each hole."""
    others = [m for m in dict.fromkeys(m for t in found.values() for m in t) if m not in _KNOWN]
    head = ["held back", "objects", "learned", "classical", *others, "gain", "68 %, 95 % of learned", "of classical"]
    lines = [f"| {' | '.join(head)} |", f"|---|---:|{'---|' * (len(head) - 2)}"]
    for name, told in found.items():
        cells = [name, str(told["objects"]), *(number(told[m]["rms"]) for m in ("learned", "classical"))]
        cells += [number(told[m]["rms"]) if m in told else "" for m in others]
        cells.append(number(told["gain"], bold=True))
        cells += [f"{told[m]['cover68'][0]:.3f}, {told[m]['cover95'][0]:.3f}" for m in ("learned", "classical")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


_KNOWN = ("objects", "learned", "classical", "gain")


def variable(found: dict[str, Any]) -> list[str]:
    """The task of variable stars."""
    lines = ["| what the model is given | accuracy | log loss | gain over g and r |", "|---|---|---|---|"]
    for name, told in found.items():
        if name != "objects":
            gain = "" if name == "g and r" else number(told["gain"], bold=True)
            lines.append(f"| {name} | {number(told['accuracy'])} | {number(told['log_loss'])} | {gain} |")
    return lines


def stellar(found: dict[str, Any]) -> list[str]:
    """The task of stellar parameters."""
    ways = ("complete", "without blue", "learned blue", "classical blue")
    gains = ("learned blue", "classical blue")
    head = ["test spectra", "label", *ways, *(f"gain of {w}" for w in gains)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for condition in ("complete", "no blue"):
        for label, told in found[condition].items():
            cells = [condition, label, *(number(told[w]) for w in ways)]
            cells += [number(told[f"{w}_gain"], bold=True) for w in gains]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(found: dict[str, Any]) -> str:
    """What the intervals say of the two methods."""
    cells = {f"{group}, {name}": told["gain"] for group in _GROUPS for name, told in found[group].items()}
    better = [name for name, gain in cells.items() if gain[1] > 0]
    worse = [name for name, gain in cells.items() if gain[2] < 0]
    return (
        f"Of {len(cells)} comparisons, the learned method is better in {len(better)} ({'; '.join(better) or 'none'}) and "
        f"worse in {len(worse)}."
    )


_GROUPS = ("light_curves", "spectra", "spectra_lamost")


def write_page(results: Path, page: Path) -> Path:
    """Write the page.

    Parameters
    ----------
    results, page : Path
        JSON of the figures, and Markdown to write.

    Returns
    -------
    Path
        The page.
    """
    found = json.loads(results.read_text())
    made = found["pretraining"]
    steps = {m: f"{made[m]['options']['steps']} steps with `hide={made[m]['options']['hide']}`" for m in made}
    s, v = found["stellar_parameters"], found["variable_star"]
    parts = [
        INTRO,
        f"Light curves: {steps['light_curves']}; spectra: {steps['spectra']}, `hidden_size` 64 and three layers. Both are "
        f"short trainings on two busy cores (under three CPU minutes each). {verdict(found)}",
        "## Light curves: RR Lyrae of Stripe 82, magnitudes",
        "\n".join(holes(found["light_curves"])),
        "## Spectra: MILES, in units of the mean flux",
        "\n".join(holes(found["spectra"])),
        "## Spectra of another instrument: LAMOST DR1, which neither method has seen",
        "\n".join(holes(found["spectra_lamost"])),
        "## Does it help `variable_star`",
        f"The model that ships, on {v['objects']} RR Lyrae of Stripe 82 that neither it nor the backbone has seen; ten "
        "answers are allowed. Nothing is trained: the light curve loses u, i and z, or has them generated at its visits.",
        "\n".join(variable(v)),
        "## Does training with it help `stellar_parameters`",
        f"Networks from scratch, {s['steps']} steps of 32, on {s['train']} MILES stars, of which half begin at 5300 Angstrom "
        f"(complete: none does), or have their blue generated; {s['objects']} other stars judge, complete or without blue, "
        "which is generated for the networks that were trained with generated blue. The classical method knows no blue but "
        "that of the other half; the backbone was pretrained on all training stars, complete. Median absolute errors in dex; gains are "
        "those of the mean absolute error over training and judging without it.",
        "\n".join(stellar(s)),
        *([REMARKS.read_text().rstrip()] if REMARKS.is_file() else []),
    ]  # fmt: skip
    page.write_text("\n\n".join(part.rstrip() for part in parts) + "\n")
    return page
