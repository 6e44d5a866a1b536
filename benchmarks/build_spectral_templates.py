"""Write ``transforms/data/stellar_templates.safetensors`` from the MILES library.

    python benchmarks/build_spectral_templates.py MILES_FOLDER LABELS.csv

MILES_FOLDER holds ``MILES_res2.50_star_m*.fits.gz``; LABELS.csv has the columns file, star, teff, logg, feh. The
digest that is printed is recorded in ``tests/transforms/test_spectral_templates.py``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from transforms import spectral_templates as store
from transforms.numerics.spectra.continuum import running_continuum
from transforms.numerics.spectra.crosscorrelation import chi2_gain, find_peak, make_bank
from transforms.numerics.spectra.resample import rebin
from transforms.readers.format import Source
from transforms.readers.spectra import FORMATS
from transforms.records import FileRef

N_COMPONENT, N_KNOT = 72, 64
WINDOW, LAG = (3850.0, 5650.0), 8


def read(folder: Path, labels: Path) -> tuple[np.ndarray, np.ndarray, list[dict[str, str]]]:
    """Line signals and continuum knots of all stars, by file name."""
    grid, signals, knots, rows = store.grid(), [], [], []
    reader = next(item for item in FORMATS if item.name == "fits_spectrum")
    with labels.open() as stream:
        table = sorted(csv.DictReader(stream), key=lambda row: row["file"])
    for row in table:
        path = folder / row["file"]
        with Source(FileRef(url=str(path), source=path.name)) as source:
            (entry,) = reader.entries(source, reader.items(source)[0])
            spectrum = entry.load()
        flux, _, mask = rebin(spectrum.wavelength, spectrum.flux, None, spectrum.mask | (spectrum.flux <= 0), grid)
        level, defined = running_continuum(flux, ~mask, store.CONTINUUM_SIGMA)
        signals.append(np.where(defined & ~mask, flux / level - 1.0, 0.0))
        place = np.linspace(0, grid.size - 1, N_KNOT)
        knots.append(np.interp(place, np.arange(grid.size), np.log10(level / level.mean())))
        rows.append(row)
    return np.array(signals), np.array(knots), rows


def quantise(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int16 and the scale along an axis."""
    scale = np.abs(values).max(axis=axis, keepdims=True) / 32_000.0
    return np.round(values / scale).astype(np.int16), np.squeeze(scale, axis=axis).astype(np.float32)


def zero_points(basis: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Velocity of each template by the median of its 20 best fellows, itself left out, in two passes, km/s.

    The templates as they are stored are measured, not the stars: few components take part of a star's shift away.
    """
    start, stop = np.searchsorted(store.grid(), WINDOW)
    bank = make_bank(basis[:, start - LAG : stop + LAG], coefficients, LAG)
    pairs = []
    for k, signal in enumerate((coefficients @ basis)[:, start:stop]):
        which, gain, _ = chi2_gain(signal, np.ones(signal.size), bank, 21)
        peaks = [(j, find_peak(curve)) for j, curve in zip(which, gain, strict=True) if j != k]
        pairs.append([(j, peak.lag * store.PIXEL_KMS) for j, peak in peaks[:20] if not peak.edge])
    found = np.zeros(len(pairs))
    for _ in range(2):
        found = np.array([np.median([v + found[j] for j, v in pair]) if pair else 0.0 for pair in pairs])
        found -= np.median(found)
    return found


def main(folder: Path, labels: Path) -> None:
    """Build the file and print its size and digest."""
    from safetensors.numpy import save_file

    signals, knots, rows = read(folder, labels)
    mean = signals.mean(axis=0)
    left, sizes, right = np.linalg.svd(signals - mean, full_matrices=False)
    sign = np.sign(right[:, np.argmax(np.abs(right), axis=1)].diagonal())[:, None]  # an SVD leaves the signs open
    scores = (left * sizes)[:, :N_COMPONENT] * sign[:N_COMPONENT, 0]
    basis, basis_scale = quantise(np.concatenate([mean[None], (right * sign)[:N_COMPONENT]]), axis=1)
    scores, score_scale = quantise(scores, axis=0)
    whole = basis * basis_scale[:, None]
    coefficients = np.concatenate([np.ones((len(rows), 1)), scores * score_scale], axis=1)
    residual = signals - coefficients @ whole
    print(f"{len(rows)} stars, rms of what {N_COMPONENT} components leave: {residual.std():.5f} of the continuum")
    offsets = zero_points(whole, coefficients)
    print(f"zero points: median {np.median(offsets):.2f}, sigma {1.4826 * np.median(np.abs(offsets)):.2f} km/s")
    number = {
        key: np.array([float(row[key] or "nan") for row in rows], dtype=np.float32) for key in ("teff", "logg", "feh")
    }
    arrays = {
        "basis": basis,
        "basis_scale": basis_scale,
        "scores": scores,
        "score_scale": score_scale,
        "continuum": knots.astype(np.float16),
        "zero_point": np.clip(offsets, -30, 30).astype(np.float32),
        "teff": number["teff"],
        "logg": number["logg"],
        "fe_h": number["feh"],
    }
    store.PATH.parent.mkdir(exist_ok=True)
    names = json.dumps([row["star"] or row["file"] for row in rows])
    save_file(
        {key: np.ascontiguousarray(value) for key, value in arrays.items()}, store.PATH, metadata={"names": names}
    )
    content = store.PATH.read_bytes()
    print(f"{store.PATH.name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
