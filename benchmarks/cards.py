"""Write the three model cards of docs/models from the results that the benchmarks left in benchmarks/results.

``python -m benchmarks.cards``
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.bundle import bundled, load_bundle
from finetune.card import model_card

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
CARDS = HERE.parent / "docs" / "models"
STELLAR_FOLDS = 5


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(str(v) for v in r)} |" for r in rows),
        "",
    ]


def figure(values: Sequence[float], digits: int = 3) -> str:
    middle, low, high = values
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def write(task: str, evaluations: Mapping[str, Mapping[str, Any]], more: Iterable[str]) -> None:
    bundle = load_bundle(bundled(task))
    text = model_card(bundle.task(), bundle.info, bundle.digest, evaluations)
    CARDS.mkdir(parents=True, exist_ok=True)
    (CARDS / f"{task}.md").write_text(text.rstrip() + "\n\n" + "\n".join(more).rstrip() + "\n", encoding="utf-8")
    print(f"wrote docs/models/{task}.md")


def stellar() -> None:
    from benchmarks.stellar_report import table as folds
    from benchmarks.stellar_report import verdicts

    found = read("stellar_parameters")
    done = {seed: sum(s == seed for _, s in found["folds and seeds"]) for _, seed in found["folds and seeds"]}
    whole = done and all(n == STELLAR_FOLDS for n in done.values()) and len(done) >= 3
    more = [
        "## MILES, stars held out fold by fold (clusters whole; weights thrown away)",
        "",
        f"Folds done of {STELLAR_FOLDS}: "
        + ", ".join(f"{n} with seed {seed}" for seed, n in sorted(done.items()))
        + ".",
        "Median absolute error of log10 Teff (dex), log g and [Fe/H] (dex); differences are paired, brackets are 95 %",
        "bootstrap intervals over stars (clusters drawn whole, the seeds of one star together). `model` is the ensemble,",
        "`ridge` kernel ridge on principal components with ivar-weighted projection, `match` the ivar-weighted template",
        "match, `mean` the mean of model and ridge.",
        "",
        *([folds(found["miles"]), ""] if "miles" in found else []),
        *(
            ["Over all folds and seeds:", "", *verdicts(found["miles"])]
            if whole
            else ["No gain is claimed before all are."]
        ),
        "",
        *_stellar_seeds(found.get("miles by seed", {})),
        *_stellar_coverage(found.get("coverage", {})),
        "## LAMOST DR1 after self-calibration of the survey (no label used)",
        "",
        *_stellar_transfer(found["lamost"]),
        "## MILES, the eighth that the shipped model did not train on",
        "",
        "These stars fixed the errors and the rule, so the figures lean to the kind side.",
        "",
        folds(found["held eighth"]),
        "",
    ]
    write(
        "stellar_parameters",
        {"LAMOST DR1, another survey, nothing of it used": read("stellar_parameters_lamost")},
        more,
    )


def _triple(values: Sequence[float]) -> str:
    return f"{values[0]:.4f} / {values[1]:.3f} / {values[2]:.3f}"


def _stellar_seeds(found: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    if len(found) < 2:
        return []
    conditions = list(next(iter(found.values())))
    rows = [(c, *(_triple(part[c]) for part in found.values())) for c in conditions]
    return ["The model, each seed alone:", "", *table(("condition", *(f"seed {s}" for s in found)), rows)]


def _stellar_coverage(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not found:
        return []
    rows = [(k, v["n"], *(" / ".join(f"{x:.2f}" for x in v[p]) for p in ("68", "95"))) for k, v in found.items()]
    head = ("spectra", "n", "within the 68 % interval", "within the 95 % interval")
    return ["Coverage of the errors, calibrated on the stars of the other folds (Teff / log g / [Fe/H]):", "",
            *table(head, rows)]  # fmt: skip


def _stellar_transfer(found: Mapping[str, Any]) -> list[str]:
    rows = []
    for kind in ("raw", "self-calibrated"):
        for method, part in ((m, found[kind][m]) for m in ("model", "ridge", "match", "mean")):
            cells = [f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, low, high in part["median absolute error"][1:]]
            rows.append((kind, method, part["kelvin"], *cells, " / ".join(f"{b:+.3f}" for b in part["bias"])))
    return table(("spectra", "answer", "Teff, K", "log g", "[Fe/H]", "bias: log Teff / log g / [Fe/H]"), rows)


def galaxies() -> None:
    found = read("galaxy_morphology")
    more = [
        "## Simulated or real?",
        "",
        "Area under the curve of a classifier that tells simulated stamps from real ones (0.5 would be a perfect simulation):",
        "",
        *table(("features", "AUC"), [(name, f"{value:.3f}") for name, value in found["domain_auc"].items()]),
        "The simulation is still told apart with ease; figures on simulated stamps say nothing of real ones.",
    ]
    if (RESULTS / "galaxy_morphology_folds.json").is_file():
        from benchmarks.morphology_folds import report

        more += [
            "## Real images, held out fold by fold (weights thrown away)",
            "",
            "Every fold trains the whole recipe anew, on simulated stamps and on four fifths of both sets. Brackets: 95 %",
            "bootstrap over objects. A gain is claimed only over all folds and three seeds, where its interval leaves zero out.",
            *report(read("galaxy_morphology_folds")),
        ]
    else:
        more.append("Folds over the real sets (`python -m benchmarks.morphology_folds`) have not been run.")
    title = "Galaxy Zoo 1, never trained on (elliptical, spiral, edge-on, merger)"
    write("galaxy_morphology", {title: found["gz1"]}, more)


def variables() -> None:
    found = read("variable_star")
    more = []
    for name, title in (("hardB", "Simulated, hard (g and r, 12 to 30 visits), donors held out"),
                        ("realB", "Real RR Lyrae of Stripe 82, the half of the stars that was not trained on")):  # fmt: skip
        part = found.get("bundle", {}).get(name)
        if part:
            rows = [
                (kind, figure(part[kind]["accuracy"]), figure(part[kind]["macro_f1"]), f"{part[kind]['ece']:.3f}")
                for kind in ("model", "trees", "mean")
            ]
            recalls = sorted(part["model"]["recall"])
            more += [
                f"## {title}",
                "",
                f"{part['n']} objects. `trees` is the classical answer, `mean` the combination.",
                "",
            ]
            more += table(("answer", "accuracy", "macro-F1", "ECE"), rows)
            more += table(("recall", "model", "trees", "mean"),
                          [(c, *(part[k]["recall"].get(c, "") for k in ("model", "trees", "mean"))) for c in recalls])  # fmt: skip
    transfer = {k: v for k, v in found.get("transfer", {}).items() if isinstance(v, dict)}
    if transfer:
        more += [
            "## Other surveys, none of their labels used (80 ZTF supernovae lent time stamps): share right, of ten classes",
            "",
        ]
        more += table(("set", "n", "model", "trees", "mean"),
                      [(k, v["n"], v["model"], v["trees"], v["mean"]) for k, v in transfer.items()])  # fmt: skip
    more += [*_variable_seeds(found), *_variable_eros(found.get("eros")), *_variable_rest(found)]
    write("variable_star", {}, more)


def _variable_seeds(found: Mapping[str, Any]) -> list[str]:
    """The shipped seed beside the others, on the same hard set."""
    parts = {"shipped": found.get("bundle"), **{k: v for k, v in found.items() if k.startswith("seed_")}}
    rows = [
        (name.replace("_", " "), *(figure(part["hardB"][kind]["macro_f1"]) for kind in ("model", "trees", "mean")))
        for name, part in parts.items()
        if part and "hardB" in part
    ]
    if len(rows) < 2:
        return []
    return ["## Macro-F1 on the hard set by seed (the recipe trained anew, weights thrown away)", "",
            *table(("seed", "model", "trees", "mean"), rows)]  # fmt: skip


def _variable_eros(found: Mapping[str, Any] | None) -> list[str]:
    if not found:
        return []
    kinds = ("forest", "transformer", "mean")
    classes = sorted(found["forest"]["recall"])
    rows = [(k, figure(found[k]["macro_f1"]), *(found[k]["recall"][c] for c in classes)) for k in kinds]
    return ["## EROS-1, real stars with real labels, five folds (trained and judged there only; nothing of it ships)", "",
            f"{found['n']} stars; macro-F1 of the mean less that of the forest, paired: {figure(found['mean_less_forest'])}.",
            "", *table(("answer", "macro-F1", *(f"recall {c}" for c in classes)), rows)]  # fmt: skip


def _variable_rest(found: Mapping[str, Any]) -> list[str]:
    lines = []
    if "period" in found:
        part = found["period"]
        lines += ["## Period of real RR Lyrae (Stripe 82), within one percent", "",
                  f"{figure(part['within_1_percent'])} of {part['n']}; RRab {part['rrab']:.3f}, RRc {part['rrc']:.3f}; the right one "
                  f"is among the best three for {part['any_of_three']:.3f}.", ""]  # fmt: skip
    if "auc" in found:
        lines += ["## Simulated or real?", "",
                  f"A classifier tells simulated RRab from real ones with an AUC of {figure(found['auc']['auc'])} (0.5 would be a "
                  f"perfect simulation), {found['auc']['n']} of each.", ""]  # fmt: skip
    if "trees_fair" in found:
        part = found["trees_fair"]
        lines += ["## Trees alone, five folds by donor, no star near the limit", "",
                  f"Accuracy {figure(part['with_colours'])}; shape alone, without colours, {figure(part['shape_only'])}.", ""]  # fmt: skip
    return lines


if __name__ == "__main__":
    stellar()
    galaxies()
    variables()
