"""Light curves written as surveys publish them: long CSV, Parquet with list columns, Kepler FITS, SNANA text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transforms.light_curve import AB_NANOJANSKY
from transforms.records import LightCurve

_LN = np.log(10) / 2.5
_SNANA_ZERO = 10 ** (0.4 * (27.5 - AB_NANOJANSKY))  # FLUXCAL of one nJy


def magnitudes(record: LightCurve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AB magnitudes of the points with positive flux.

    Parameters
    ----------
    record : LightCurve
        In nJy.

    Returns
    -------
    index, magnitude, error : ndarray
        Places of the points, and their values.
    """
    index = np.flatnonzero(record.flux > 0)
    flux = record.flux[index]
    return index, AB_NANOJANSKY - 2.5 * np.log10(flux), record.flux_err[index] / (flux * _LN)


def write_csv(path: Path, records: Sequence[LightCurve]) -> None:
    """Many objects in one long table: object_id, mjd, mag, magerr, band, ra, dec.

    Parameters
    ----------
    path : Path
        File to write.
    records : sequence of LightCurve
        In nJy.
    """
    lines = ["object_id,mjd,mag,magerr,band,ra,dec"]
    for record in records:
        ra, dec = ("" if v is None else f"{v:.6f}" for v in (record.ra, record.dec))
        for i, magnitude, error in zip(*magnitudes(record), strict=True):
            values = f"{record.time[i]:.6f},{magnitude:.5f},{error:.5f},{record.band[i]}"
            lines.append(f"{record.object_id},{values},{ra},{dec}")
    path.write_text("\n".join(lines) + "\n")


def write_parquet(path: Path, records: Sequence[LightCurve]) -> None:
    """One row an object, points in list columns: object_id, ra, dec, mjd, psfFlux, psfFluxErr, band.

    Parameters
    ----------
    path : Path
        File to write.
    records : sequence of LightCurve
        In nJy.
    """
    import pyarrow as pa
    import pyarrow.parquet

    flux = pa.field("psfFlux", pa.list_(pa.float64()), metadata={"unit": "nJy"})
    schema = pa.schema(
        [("object_id", pa.string()), ("ra", pa.float64()), ("dec", pa.float64()), ("mjd", pa.list_(pa.float64())), flux,
         ("psfFluxErr", pa.list_(pa.float64())), ("band", pa.list_(pa.string()))]
    )  # fmt: skip
    columns = [
        [record.object_id for record in records],
        [record.ra for record in records],
        [record.dec for record in records],
        [record.time for record in records],
        [record.flux for record in records],
        [record.flux_err for record in records],
        [record.band.tolist() for record in records],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    pyarrow.parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def write_kepler(path: Path, record: LightCurve) -> None:
    """One target as a Kepler long-cadence file, with a row of NaN and one with a quality bit.

    Parameters
    ----------
    path : Path
        File to write.
    record : LightCurve
        One band; MJD of the barycentre.
    """
    from astropy.io import fits

    n = record.time.size
    time = record.time + 2400000.5 - 2454833
    flux, error = record.flux.astype(np.float32), record.flux_err.astype(np.float32)
    quality = np.zeros(n, np.int32)
    if n > 4:
        time, flux = time.copy(), flux.copy()
        time[n // 2], flux[n // 2] = np.nan, np.nan
        quality[n // 3] = 128
    columns = [
        fits.Column("TIME", "D", unit="BJD - 2454833", array=time),
        fits.Column("CADENCENO", "J", array=np.arange(n)),
        *(
            fits.Column(name, "E", unit="e-/s", array=values)
            for name, values in (
                ("SAP_FLUX", flux), ("SAP_FLUX_ERR", error), ("PDCSAP_FLUX", flux), ("PDCSAP_FLUX_ERR", error),
            )
        ),
        fits.Column("SAP_QUALITY", "J", array=quality),
    ]  # fmt: skip
    table = fits.BinTableHDU.from_columns(columns, name="LIGHTCURVE")
    table.header.update({"BJDREFI": 2454833, "BJDREFF": 0.0, "TIMESYS": "TDB"})
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "Kepler", "MISSION": "Kepler", "OBJECT": record.object_id})
    if record.ra is not None and record.dec is not None:
        primary.header.update({"RA_OBJ": record.ra, "DEC_OBJ": record.dec})
    aperture = fits.ImageHDU(np.full((3, 3), 3, np.int32), name="APERTURE")
    fits.HDUList([primary, table, aperture]).writeto(path, overwrite=True)


def write_snana(path: Path, record: LightCurve) -> None:
    """One supernova as SNANA text, FLUXCAL with zero point 27.5.

    Parameters
    ----------
    path : Path
        File to write.
    record : LightCurve
        In nJy.
    """
    lines = ["SURVEY: SIMULATED", f"SNID: {record.object_id}"]
    if record.ra is not None and record.dec is not None:
        lines += [f"RA: {record.ra:.6f} deg", f"DECL: {record.dec:.6f} deg"]
    lines += ["FILTERS: " + "".join(sorted(set(record.band.tolist()))), f"NOBS: {record.time.size}", "NVAR: 5"]
    lines.append("VARLIST: MJD FLT FIELD FLUXCAL FLUXCALERR")
    for time, band, flux, error in zip(record.time, record.band, record.flux, record.flux_err, strict=True):
        lines.append(f"OBS: {time:.5f} {band} NULL {flux * _SNANA_ZERO:.4f} {error * _SNANA_ZERO:.4f}")
    path.write_text("\n".join([*lines, "END:", ""]))
