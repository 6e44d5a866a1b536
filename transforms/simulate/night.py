"""A simulated night as files, with its truth beside it: the demo, the tests and the benchmarks share it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

FIELD = (150.1, 2.2)  #: Centre of the night, ICRS degrees: the COSMOS field.
RADIUS = 1.5  #: Degrees around it.
MJD = 61368.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much there is of each kind.

    Parameters
    ----------
    fields : int
        Exposures.
    sources : int
        Stars and galaxies of one exposure.
    stamps : int
        JPEG stamps.
    spectra : int
        Spectra, spread over the instruments.
    light_curves : int
        Light curves, all in a few tables.
    broken : bool
        Files that must be refused, one for each way in which files break.
    """

    fields: int = 3
    sources: int = 40
    stamps: int = 40
    spectra: int = 80
    light_curves: int = 90
    broken: bool = True

    def scaled(self, factor: float) -> Size:
        """A night that is larger or smaller.

        Parameters
        ----------
        factor : float
            Of all numbers.

        Returns
        -------
        Size
            At least one of each kind that there was.
        """

        def times(n: int) -> int:
            return max(1, round(n * factor)) if n else 0

        return replace(
            self,
            fields=times(self.fields),
            stamps=times(self.stamps),
            spectra=times(self.spectra),
            light_curves=times(self.light_curves),
        )


def write_night(folder: Path, seed: int = 0, size: Size | None = None) -> dict[str, int]:
    """Write ``night/`` with files of all kinds and ``truth/`` with a CSV for each task.

    Parameters
    ----------
    folder : Path
        Made where it is missing; must hold neither ``night`` nor ``truth``.
    seed : int
        The same seed and size give the same bytes.
    size : Size, optional
        How much of each kind.

    Returns
    -------
    dict of str to int
        Number of objects of each kind, and of files.

    Raises
    ------
    FileExistsError
        Where there is a night already.
    """
    size = size or Size()
    night, truth = folder / "night", folder / "truth"
    for path in (night, truth):
        path.mkdir(parents=True)
    galaxies = _fields(night, seed, size) + _stamps(night, seed, size.stamps)
    stars = _spectra(night, seed, size.spectra)
    variables = _light_curves(night, seed, size.light_curves)
    broken = _broken(night, seed) if size.broken else 0
    _write(truth / "galaxy_morphology.csv", galaxies)
    _write(truth / "stellar_parameters.csv", stars)
    _write(truth / "variable_star.csv", variables)
    files = sum(path.is_file() for path in night.rglob("*"))
    return {
        "galaxies": len(galaxies),
        "spectra": len(stars),
        "light_curves": len(variables),
        "broken": broken,
        "files": files,
    }


def place(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw positions in the field of the night.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    n : int
        How many.

    Returns
    -------
    ra, dec : ndarray of float64, shape (n,)
        Degrees.
    """
    radius, angle = RADIUS * np.sqrt(rng.random(n)), 2 * np.pi * rng.random(n)
    dec = FIELD[1] + radius * np.sin(angle)
    return FIELD[0] + radius * np.cos(angle) / np.cos(np.radians(dec)), dec


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _fields(night: Path, seed: int, size: Size) -> list[dict[str, Any]]:
    from transforms.simulate.image_files import LAYOUTS, write_field
    from transforms.simulate.images import Camera, simulate_field

    folder = night / "images"
    folder.mkdir()
    rows = []
    for number in range(size.fields):
        rng = np.random.default_rng([seed, 1, number])
        camera = replace(Camera(), ra=FIELD[0] + 0.2 * number, dec=FIELD[1])
        field, truth = simulate_field(rng, n=size.sources, camera=camera)
        write_field(folder, f"sim_{number:04d}", field, LAYOUTS[number % len(LAYOUTS)])
        for i in range(len(truth["ra"])):
            kind = str(truth["kind"][i])
            rows.append(
                {
                    "source": "",
                    "row": "",
                    "object_id": f"field{number}-{i}",
                    "ra": float(truth["ra"][i]),
                    "dec": float(truth["dec"][i]),
                    "flux_njy": float(truth["flux_njy"][i]),
                    "morphology_class": "star_or_artifact" if kind == "star" else kind,
                }
            )
    return rows


def _stamps(night: Path, seed: int, n: int) -> list[dict[str, Any]]:
    from PIL import Image

    from transforms.simulate.galaxies import simulate_galaxies

    folder = night / "stamps"
    folder.mkdir()
    rows = []
    for number, (cutout, truth) in enumerate(simulate_galaxies(n, seed, display=1.0)):
        planes = np.moveaxis(np.clip(np.rint(cutout.flux), 0, 255).astype(np.uint8), 0, -1)
        picture = Image.fromarray(planes if planes.shape[-1] == 3 else planes[..., 0])
        name = f"stamp_{number:05d}.jpg"
        picture.save(folder / name, quality=92)
        rows.append(
            {
                "source": f"stamps/{name}",
                "row": 0,
                "object_id": Path(name).stem,
                "morphology_class": truth["morphology_class"],
            }
        )
    return rows


def _spectra(night: Path, seed: int, n: int) -> list[dict[str, Any]]:
    from transforms.simulate import spectrum_files as files
    from transforms.simulate.spectra import simulate_spectra

    folder = night / "spectra"
    folder.mkdir()
    rng = np.random.default_rng([seed, 2])
    rows: list[dict[str, Any]] = []
    shares = {"lamost": 0.35, "sdss": 0.25, "desi": 0.4}
    for number, (instrument, share) in enumerate(shares.items()):
        stars = simulate_spectra(max(1, round(n * share)), seed + 1000 * (number + 1), instrument)
        ra, dec = place(rng, len(stars))
        stars = [
            replace(star, spectrum=replace(star.spectrum, ra=float(r), dec=float(d), mjd=MJD))
            for star, r, d in zip(stars, ra, dec, strict=True)
        ]
        if instrument == "desi":
            name = "spectra/coadd-main-sim.fits"
            files.write_desi_coadd(night / name, stars)
            places = [(name, row) for row in range(len(stars))]
        else:
            writer = files.write_lamost if instrument == "lamost" else files.write_sdss_spec
            places = []
            for row, star in enumerate(stars):
                name = f"spectra/{'spec-61368-SIM' if instrument == 'lamost' else 'spec-9999-61368'}-{row:04d}.fits"
                writer(night / name, star)
                places.append((name, 0))
        for (source, row), star in zip(places, stars, strict=True):
            known = {k: float(v) for k, v in star.truth.items()}
            rows.append({"source": source, "row": row, "object_id": star.spectrum.object_id, **known})
    return rows


def _light_curves(night: Path, seed: int, n: int) -> list[dict[str, Any]]:
    from transforms.simulate.light_curves import simulate_light_curves

    folder = night / "light_curves"
    folder.mkdir()
    rng = np.random.default_rng([seed, 3])
    objects = simulate_light_curves(n, seed + 5000)
    ra, dec = place(rng, n)
    rows: list[dict[str, Any]] = []
    per_table = min(256, max(1, -(-n // 3)))  # a night has many tables rather than one huge one
    for first in range(0, n, per_table):
        name = f"light_curves/variables_{first // per_table:02d}.csv"
        with (night / name).open("w", encoding="utf-8", newline="") as stream:
            stream.write("object_id,ra,dec,mjd,band,psfFlux,psfFluxErr\n")
            for row, index in enumerate(range(first, min(first + per_table, n))):
                curve, truth = objects[index]
                identity = f"sim{index:06d}"
                for t, b, f, e in zip(curve.time, curve.band, curve.flux, curve.flux_err, strict=True):
                    stream.write(f"{identity},{ra[index]:.7f},{dec[index]:.7f},{t:.6f},{b},{f:.3f},{e:.3f}\n")
                rows.append(
                    {
                        "source": name,
                        "row": row,
                        "object_id": identity,
                        "variable_class": truth.kind,
                        "period": "" if truth.period is None else truth.period,
                    }
                )
    return rows


def _broken(night: Path, seed: int) -> int:
    """One file for each way in which files break; all of them must end among the rejects, or as a row with flags."""
    folder = night / "broken files – ü"
    folder.mkdir()
    whole = next((night / "images").glob("*.fits")).read_bytes()
    spectrum = next((night / "spectra").glob("spec-9999*.fits")).read_bytes()
    cases: dict[str, bytes] = {
        "empty.fits": b"",
        "text.fits": b"this is a note, not an image\n",
        "truncated.fits": whole[: len(whole) // 3],
        "header_only.fits": whole[:1000],
        "spectrum_cut.fits": spectrum[: len(spectrum) // 2],
        "damaged.csv.gz": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03not a stream",
        "noise.bin": np.random.default_rng([seed, 4]).bytes(2048),
        "no_time.csv": b"object_id,band,flux\na,g,1\na,g,2\n",
        "no_values.csv": b"object_id,mjd,band,psfFlux,psfFluxErr\n",
        "all_nan.csv": b"object_id,mjd,band,psfFlux,psfFluxErr\n"
        + b"".join(b"n,%d,g,nan,1\n" % (60000 + i) for i in range(9)),
        "negative_errors.csv": b"object_id,mjd,band,psfFlux,psfFluxErr\n"
        + b"".join(b"n,%d,g,100,-1\n" % (60000 + i) for i in range(9)),
        "picture.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00cut",
    }
    for name, data in cases.items():
        (folder / name).write_bytes(data)
    return len(cases)
