"""Give a bundle that ships the place of its training objects in its embedding, and measure how it tells strangers.

``python -m benchmarks.embedding_spaces TASK --data DATA``

Training and validation objects are those that the bundle was trained and tuned on, or further draws from the same
simulation. Strangers are other surveys and garbage; none of them is used for anything but the figures.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from finetune.bundle import bundled, load_bundle
from finetune.bundle_writing import derive_bundle
from finetune.embedding_space import fit_space
from finetune.network import Network, run_network
from finetune.task import Prepared
from finetune.tasks import get

RESULTS = Path(__file__).resolve().parent / "results" / "novelty.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "novelty.md"
INTRO = Path(__file__).resolve().parents[1] / "docs" / "parts" / "novelty.md"
SEED = 2026
Sets = dict[str, list[Prepared]]  #: ``train``, ``validation``, ``known``, and strangers by name.


def variable_star(data: Path) -> Sets:
    """Light curves: simulated on real stamps and real RR Lyrae; EROS-1 and what is no star."""
    from benchmarks import variable_data as source
    from transforms.simulate.light_curves import simulate_light_curves

    stars = source.halves(source.stripe_82(data))
    stamps = [source.donor(record, 22.3, 0.01) for record, _ in stars[0]]
    every, rng = stamps + source.ztf_donors(data), np.random.default_rng(SEED)

    def simulated(n: int, seed: int) -> list[Prepared]:
        """Three quarters as the larger sets of the training, one quarter as its hard one; each seed another sky."""
        easy = source.simulated(3 * n // 4, seed, every, False, "sim")
        return [source.prepared(e.record) for e in easy + source.simulated(n // 4, seed + 1, stamps, True, "hard")]

    fresh = [record for record, _ in simulate_light_curves(200, 71, stamps)]

    def ready(records: Sequence[Any]) -> list[Prepared]:
        return [source.prepared(source.ready(record, {}, "", "").record) for record in records]

    def noise(record: Any) -> Any:
        return replace(record, flux=np.abs(np.median(record.flux) * (1 + rng.standard_cauchy(record.flux.size))))

    path = data / "lightcurves" / "eros1" / "eros1_variables.parquet"
    eros = list(source.read(path, data / "lightcurves"))
    return {
        "train": simulated(1200, 33) + [source.prepared(e.record) for e in source.real_rr(stars[0], copies=1)],
        "validation": simulated(600, 51),
        "known": simulated(400, 61),
        "SDSS Stripe 82 RR Lyrae of the other half (a known class)": ready([r for r, _ in stars[1]]),
        "EROS-1 variables (known classes, another survey)": ready([eros[i] for i in rng.permutation(len(eros))[:200]]),
        "fluxes shuffled in time": ready([replace(r, flux=rng.permutation(r.flux)) for r in fresh]),
        "fluxes mirrored (dips for outbursts)": ready([replace(r, flux=2 * np.median(r.flux) - r.flux) for r in fresh]),
        "Cauchy noise": ready([noise(r) for r in fresh]),
    }


def stellar_parameters(data: Path) -> Sets:
    """Spectra: MILES, clean and degraded; LAMOST, galaxies, quasars and what is no spectrum."""
    from benchmarks.stellar_data import degraded, load, read_record, split
    from transforms.measure import measure

    miles, task = load(data, "miles"), get("stellar_parameters")
    eighth, rng = split(miles.groups, 8, 7), np.random.default_rng(SEED)
    train, held = miles.take(np.flatnonzero(eighth != 0)), miles.take(np.flatnonzero(eighth == 0))
    # half of what is held out fixes the unit, half is unseen
    half = split(held.groups, 2, 7)
    tune, unseen = held.take(np.flatnonzero(half == 0)), held.take(np.flatnonzero(half == 1))

    def both(stars: Any, copies: int) -> list[Prepared]:
        return stars.prepared + [p for seed in range(copies) for p in degraded(stars, "random", seed).prepared]

    def files(pattern: str) -> list[Prepared]:
        found = []
        for path in sorted((data / "spectra").glob(pattern)):
            try:
                found += [task.prepare(one) for one in measure(read_record(path), {})]
            except (ValueError, StopIteration):
                print("not read:", path.name)
        return found

    def changed(how: Callable[[np.ndarray], np.ndarray]) -> list[Prepared]:
        return [{**p, "flux": how(p["flux"]).astype(p["flux"].dtype)} for p in unseen.prepared]

    return {
        "train": both(train, 1),
        "validation": both(tune, 6),
        "known": both(unseen, 6),
        "LAMOST DR1 stars (another survey)": load(data, "lamost").prepared,
        "Indo-US stars (another survey)": files("indous/*"),
        "old stellar populations (galaxies)": files("miuscat_thin_ssp/*"),
        "quasar and galaxy of SDSS, galaxies of DESI": files("sdss_boss/*.fits") + files("desi/*.fits"),
        "spectra read backwards": changed(lambda flux: flux[::-1].copy()),
        "noise alone": changed(lambda flux: np.mean(flux) + np.std(flux) * rng.normal(size=flux.shape)),
        "no line at all": changed(lambda flux: np.full_like(flux, np.mean(flux))),
    }


def galaxy_morphology(data: Path) -> Sets:
    """Stamps: Galaxy Zoo 2 and simulated ones; FIRST radio sources and what is no galaxy."""
    from benchmarks.morphology_data import FOLDERS, load_image
    from transforms.measure import measure

    task, rng = get("galaxy_morphology"), np.random.default_rng(SEED)
    root = data / "images_galaxy"

    def images(name: str, count: int) -> list[Any]:
        paths = sorted(p for p in (root / name).rglob("*") if p.suffix in (".jpg", ".jpeg", ".png"))
        return [load_image(paths[i]) for i in rng.permutation(len(paths))[:count]]

    def ready(cutouts: Sequence[Any]) -> list[Prepared]:
        return [task.prepare(one) for cutout in cutouts for one in measure(cutout, {})]

    split = json.loads((bundled(task.name) / "split.json").read_text(encoding="utf-8"))["parts"]
    gz: dict[str, list[Any]] = {"train": [], "validation": [], "test": []}
    for name in (FOLDERS["gz2"], FOLDERS["gng"]):
        for path in sorted(p for p in (root / name).rglob("*.jp*g") if p.stem in split):
            gz[split[path.stem]].append(load_image(path))
    simulated = [e.record for e in task.simulate(300, 1)]
    noise = [replace(c, flux=rng.normal(0, 1, c.flux.shape).astype(np.float32)) for c in simulated[:80]]
    return {
        "train": ready([*(gz["train"][i] for i in rng.permutation(len(gz["train"]))[:300]), *simulated[:160]]),
        "validation": ready([*gz["validation"], *simulated[160:230]]),
        "known": ready([*gz["test"], *simulated[230:]]),
        "Galaxy Zoo 1 (known classes, SDSS too)": ready(images(FOLDERS["gz1"], 80)),
        "FIRST radio galaxies (another band)": ready(images("radio_first", 80)),
        "noise alone": ready(noise),
    }


SETS: dict[str, Callable[[Path], Sets]] = {
    "galaxy_morphology": galaxy_morphology, "stellar_parameters": stellar_parameters, "variable_star": variable_star,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task, bundle = get(args.task), load_bundle(bundled(args.task))
    network = Network(bundle.networks(task), torch.device("cpu"))
    sets = {name: part for name, part in SETS[args.task](args.data).items() if part}
    vectors = {name: run_network(network, part, task.batch_size)["embedding"] for name, part in sets.items()}
    space = fit_space(vectors["train"], vectors["validation"], SEED)
    if space is None:
        raise SystemExit("too few objects")
    far = {name: space.novelty(part) for name, part in vectors.items()}
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    kept[args.task] = {
        "train": len(far["train"]), "validation": len(far["validation"]), "axes": int(space.axes.shape[1]),
        "known": {"n": len(far["known"]), "above": float((far["known"] > 1).mean())},
        "strangers": {name: judged(far["known"], far[name]) for name in far if name not in ("train", "validation", "known")},
    }  # fmt: skip
    print(json.dumps(kept[args.task], indent=1))
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    command = f"python -m benchmarks.embedding_spaces {args.task} --data DATA"
    made = bundle.info.created_by.split("; python -m benchmarks.embedding_spaces")[0]
    found = derive_bundle(bundle, bundle.path, space=space, created_by=f"{made}; {command}")
    print("saved", found.path, found.digest[:16])
    write_page(kept)


def judged(known: np.ndarray, strange: np.ndarray) -> dict[str, Any]:
    """How well novelty tells some objects from known ones, with a bootstrap interval of the area."""
    rng = np.random.default_rng(0)
    truth = np.r_[np.zeros(len(known)), np.ones(len(strange))]
    draws = []
    for _ in range(500):
        a, b = rng.choice(known, len(known)), rng.choice(strange, len(strange))
        draws.append(roc_auc_score(truth, np.r_[a, b]))
    auc = float(roc_auc_score(truth, np.r_[known, strange]))
    return {"n": len(strange), "auc": [auc, *np.quantile(draws, [0.025, 0.975]).tolist()],
            "above": float((strange > 1).mean())}  # fmt: skip


def write_page(kept: Mapping[str, Any]) -> None:
    """Write docs/novelty.md."""
    lines = [INTRO.read_text(encoding="utf-8").rstrip(), ""]
    for task, found in sorted(kept.items()):
        known = found["known"]
        lines += [
            f"## {task}", "",
            f"`python -m benchmarks.embedding_spaces {task} --data DATA`: {found['train']} training and "
            f"{found['validation']} validation objects, {found['axes']} axes. Of {known['n']} unseen known objects "
            f"{known['above']:.1%} are flagged (aim: 1 %).", "",
            "| objects | n | area under ROC against known ones | flagged NOVEL |", "|---|---:|---|---:|",
        ]  # fmt: skip
        for name, one in found["strangers"].items():
            middle, low, high = one["auc"]
            lines.append(f"| {name} | {one['n']} | {middle:.3f} [{low:.3f}, {high:.3f}] | {one['above']:.0%} |")
        lines.append("")
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("wrote docs/novelty.md")


if __name__ == "__main__":
    main()
