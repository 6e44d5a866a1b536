"""Measure on real surveys how near-duplicates are found: distinct objects that would be merged, and copies that are found.

``python -m benchmarks.near_duplicates --data DATA``

Every set holds distinct objects by its own account; every pair that is found there is listed, to be looked at. Copies of
some of its objects are then added, each changed in one way, one kind of change at a time.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import zoom

from finetune.fingerprints import KINDS, Kind
from finetune.near_duplicates import Pair, search
from transforms.records import Cutout, LightCurve, Spectrum

RESULTS = Path(__file__).resolve().parent / "results" / "near_duplicates.json"
COPIES = 40
Change = Callable[[Any, np.random.Generator], Any]


def noise_of(flux: np.ndarray) -> float:
    """Noise of a stamp's background; one unit where it was clipped."""
    return 1.4826 * float(np.median(np.abs(flux - np.median(flux)))) or 1.0


def stamp(record: Cutout, flux: np.ndarray) -> Cutout:
    flux = flux.astype(np.float32)
    return replace(record, flux=flux, mask=np.zeros(flux.shape, bool), ivar=None)


def jpeg(record: Cutout, quality: int) -> Cutout:
    image = Image.fromarray(np.clip(np.moveaxis(record.flux, 0, -1), 0, 255).astype(np.uint8))
    stream = BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stamp(record, np.moveaxis(np.asarray(Image.open(stream), np.float32), -1, 0))


def inner(record: Cutout, share: float) -> Cutout:
    edge = round(record.flux.shape[1] * (1 - share) / 2)
    return stamp(record, record.flux[:, edge:-edge, edge:-edge])


STAMPS: dict[str, Change] = {
    "noise as strong as the background's": lambda r, g: stamp(r, r.flux + g.normal(0, noise_of(r.flux), r.flux.shape)),
    "noise three times as strong": lambda r, g: stamp(r, r.flux + g.normal(0, 3 * noise_of(r.flux), r.flux.shape)),
    "shifted by one pixel": lambda r, g: stamp(r, np.roll(r.flux, 1, axis=2)),
    "shifted by ten pixels, both ways": lambda r, g: stamp(r, np.roll(r.flux, (10, 10), axis=(1, 2))),
    "every second pixel": lambda r, g: stamp(r, r.flux[:, ::2, ::2]),
    "resampled by 1.3": lambda r, g: stamp(r, zoom(r.flux, (1, 1.3, 1.3), order=1)),
    "resampled to 64 pixels": lambda r, g: stamp(r, zoom(r.flux, (1, 64 / r.flux.shape[1], 64 / r.flux.shape[2]), order=1)),
    "fluxes times 0.3, and 20": lambda r, g: stamp(r, 0.3 * r.flux + 20),
    "JPEG at quality 30": lambda r, g: jpeg(r, 30),
    "one band": lambda r, g: stamp(r, r.flux[1:2]),
    "inner 95 % of each side": lambda r, g: inner(r, 0.95),
    "inner 90 % of each side": lambda r, g: inner(r, 0.9),
}  # fmt: skip


def noisy(record: Spectrum, ratio: float, rng: np.random.Generator) -> Spectrum:
    flux = record.flux * (1 + rng.normal(0, 1 / ratio, record.flux.size))
    return replace(record, flux=flux.astype(np.float32))


def picked(record: Any, keep: Any, *names: str) -> Any:
    changed = {name: getattr(record, name)[keep] for name in names if getattr(record, name) is not None}
    return replace(record, **changed)


def of_spectrum(record: Spectrum, keep: Any) -> Spectrum:
    return picked(record, keep, "wavelength", "flux", "ivar", "mask")


def tilted(record: Spectrum) -> Spectrum:
    shape = 3 * (1 + 0.3 * (record.wavelength / 5500 - 1))
    return replace(record, flux=(record.flux * shape).astype(np.float32))


SPECTRA: dict[str, Change] = {
    "fluxes times 3, tilted by 30 %": lambda r, g: tilted(r),
    "noise at S/N 200 per pixel": lambda r, g: noisy(r, 200, g),
    "noise at S/N 100": lambda r, g: noisy(r, 100, g),
    "noise at S/N 50": lambda r, g: noisy(r, 50, g),
    "every second pixel": lambda r, g: of_spectrum(r, slice(None, None, 2)),
    "without the bluest tenth": lambda r, g: of_spectrum(r, slice(r.flux.size // 10, None)),
}


def of_curve(record: LightCurve, keep: Any) -> LightCurve:
    return picked(record, keep, "time", "flux", "flux_err", "band", "quality")


def scattered(record: LightCurve, times: float, rng: np.random.Generator) -> LightCurve:
    error = np.where(np.isfinite(record.flux_err), record.flux_err, 0)
    return replace(record, flux=record.flux + times * error * rng.normal(size=error.size))


CURVES: dict[str, Change] = {
    "fluxes times 2.5, and 3": lambda r, g: replace(r, flux=2.5 * r.flux + 3),
    "times 6 minutes later": lambda r, g: replace(r, time=r.time + 6 / 1440),
    "noise of half the errors": lambda r, g: scattered(r, 0.5, g),
    "noise of the errors": lambda r, g: scattered(r, 1.0, g),
    "a fifth of the points lost": lambda r, g: of_curve(r, g.random(r.time.size) > 0.2),
    "one band": lambda r, g: of_curve(r, r.band == max(set(r.band.tolist()), key=r.band.tolist().count)),
}


Set = tuple[list[str], list[Any]]  #: Names and records.


def sets(data: Path) -> dict[str, tuple[Callable[[], Set], dict[str, Change]]]:
    """For each set of distinct objects, what reads it, and the changes that its kind is put to."""
    from benchmarks.morphology_data import load_image
    from benchmarks.stellar_data import read_record
    from benchmarks.variable_data import labels, read, stripe_82

    root = data / "lightcurves"

    def images(folder: str) -> Set:
        paths = sorted(p for p in (data / "images_galaxy" / folder).rglob("*") if p.suffix in (".jpg", ".png"))
        return [p.stem for p in paths], [load_image(p) for p in paths]

    def spectra(pattern: str) -> Set:
        paths = sorted((data / "spectra").glob(pattern))
        return [p.name for p in paths], [read_record(p) for p in paths]

    def curves(records: Callable[[], list[LightCurve]]) -> Set:
        found = records()
        return [record.object_id for record in found], found

    return {
        "SDSS, Galaxy Zoo 2": (partial(images, "gz2_spiral_nonspiral"), STAMPS),
        "SDSS, galaxy or not": (partial(images, "galaxy_nongalaxy"), STAMPS),
        "SDSS, Galaxy Zoo 1": (partial(images, "gz1_small"), STAMPS),
        "FIRST": (partial(images, "radio_first"), STAMPS),
        "MILES": (partial(spectra, "miles/*.gz"), SPECTRA),
        "LAMOST DR1": (partial(spectra, "lamost_dr1/*.gz"), SPECTRA),
        "Indo-US": (partial(spectra, "indous/*.fits"), SPECTRA),
        "EROS-1": (partial(curves, lambda: list(read(root / "eros1" / "eros1_variables.parquet", root))), CURVES),
        "Stripe 82 RR Lyrae": (partial(curves, lambda: [record for record, _ in stripe_82(data)]), CURVES),
        "ZTF supernovae Ia": (
            partial(curves, lambda: [next(read(root / n, root)) for n in sorted(labels(data)) if n.startswith("snia_ztf")]),
            CURVES,
        ),
    }  # fmt: skip


def judged(names: Sequence[str], records: Sequence[Any], changes: dict[str, Change]) -> dict[str, Any]:
    kind = KINDS[type(records[0])]
    vectors = [kind.vector(record) for record in records]
    told = [i for i, vector in enumerate(vectors) if vector is not None]
    pairs = pairs_of(kind, records, vectors)
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(told)[:COPIES])
    out: dict[str, Any] = {
        "n": len(records), "told": len(told), "pairs": [[names[p.one], names[p.two], round(p.likeness, 4)] for p in pairs],
        "copies": {},
    }  # fmt: skip
    for name, change in changes.items() if len(chosen) else ():
        copies = [change(records[i], rng) for i in chosen]
        printed = [kind.vector(copy) for copy in copies]
        both = {(p.one, p.two) for p in pairs_of(kind, [*records, *copies], [*vectors, *printed])}
        hits = [(int(i), len(records) + k) in both for k, i in enumerate(chosen)]
        out["copies"][name] = {"n": len(chosen), "found": sum(hits)}
        wrong = [(a, b) for a, b in both if b >= len(records) > a and a != chosen[b - len(records)]]
        out["copies"][name]["wrong"] = len(wrong)
        print(f"    {name}: {sum(hits)} of {len(hits)}, {len(wrong)} with another")
    return out


def pairs_of(kind: Kind, records: Sequence[Any], vectors: Sequence[np.ndarray | None]) -> list[Pair]:
    told = [i for i, vector in enumerate(vectors) if vector is not None]
    if len(told) < 2:
        return []
    return list(search(kind, [records[i] for i in told], np.stack([vectors[i] for i in told]), told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="sets whose name holds this")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name, (read, changes) in sets(args.data).items():
        if args.only and args.only not in name:
            continue
        names, records = read()
        print(name, len(records))
        kept[name] = judged(names, records, changes)
        print("   ", kept[name]["told"], "told; pairs:", kept[name]["pairs"][:6])
        del names, records
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
