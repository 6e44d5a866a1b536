"""From arrays of a whole plane to the columns and flags of each source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from transforms.flags import bits
from transforms.numerics.photometry import RADII

#: Arrays of photometry that become columns of the same name.
MEASURED = (
    "flux_kron",
    "flux_kron_err",
    "kron_radius",
    *(f"flux_aper_{radius:.0f}{end}" for radius in RADII for end in ("", "_err")),
    "r20",
    "r50",
    "r80",
    "masked_fraction",
)
_LENGTHS = ("x_err", "y_err", "kron_radius", "a", "b", "fwhm", "r20", "r50", "r80")


def plane_rows(found: Mapping[str, np.ndarray], objects: np.ndarray, block: int = 1) -> list[dict[str, Any]]:
    """Turn the arrays of one plane into one dict of columns for each source.

    Parameters
    ----------
    found : mapping of str to ndarray, shape (n,)
        From ``photometry``, with ``x``, ``y`` in native pixels.
    objects : structured ndarray, shape (n,)
        From ``sep.extract``.
    block : int
        Native pixels on a side of a pixel of the plane; lengths are multiplied by it, fluxes (the plane holds means)
        by its square.

    Returns
    -------
    list of dict
        None for what could not be measured.
    """
    values = {name: np.asarray(found[name], float) for name in MEASURED}
    values["x"], values["y"] = np.asarray(found["x"], float), np.asarray(found["y"], float)
    with np.errstate(invalid="ignore", divide="ignore"):
        values["x_err"], values["y_err"] = np.sqrt(objects["errx2"]), np.sqrt(objects["erry2"])
        values["snr"] = values["flux_kron"] / values["flux_kron_err"]
        values["a"], values["b"] = objects["a"].astype(float), objects["b"].astype(float)
        values["fwhm"] = 2 * np.sqrt(math.log(2) * (values["a"] ** 2 + values["b"] ** 2))
        values["theta_pixel"] = np.degrees(objects["theta"]).astype(float)
    for name in _LENGTHS:
        values[name] = values[name] * block
    for name in values:
        if name.startswith("flux_"):
            values[name] = values[name] * block**2
    values["n_pixels"] = objects["npix"].astype(float) * block**2
    names = list(values)
    rows = zip(*(values[name].tolist() for name in names), strict=True)
    out = [{n: (v if math.isfinite(v) else None) for n, v in zip(names, row, strict=True)} for row in rows]
    for row in out:
        row["n_pixels"] = int(row["n_pixels"] or 0)
    return out


def add_magnitude(row: dict[str, Any], zero_point: float | None) -> None:
    """Add the Kron magnitude to a row.

    Parameters
    ----------
    row : dict
        Columns of one source; changed in place.
    zero_point : float or None
        AB magnitude of one flux unit; magnitudes are null without it, and for a flux that is not positive.
    """
    flux, error = row["flux_kron"], row["flux_kron_err"]
    row["zero_point"] = zero_point
    row["mag_kron"] = row["mag_kron_err"] = None
    if zero_point is not None and flux is not None and flux > 0:
        row["mag_kron"] = zero_point - 2.5 * math.log10(flux)
        row["mag_kron_err"] = None if error is None else 2.5 / math.log(10) * error / flux


def photometry_flags(found: Mapping[str, np.ndarray], objects: np.ndarray) -> np.ndarray:
    """Flags that follow from the photometry alone.

    Parameters
    ----------
    found : mapping of str to ndarray, shape (n,)
        From ``photometry``.
    objects : structured ndarray, shape (n,)
        From ``sep.extract``.

    Returns
    -------
    ndarray of int64, shape (n,)
        Bits.
    """
    import sep

    flags = np.zeros(len(objects), np.int64)
    for name, where in (
        ("EDGE", found["truncated"] | (objects["flag"] & sep.OBJ_TRUNC != 0)),
        ("DEBLENDED", objects["flag"] & sep.OBJ_MERGED != 0),
        ("CROWDED", found["crowded"]),
        ("KRON_MINIMUM", found["kron_minimum"]),
        ("MASKED", found["masked_fraction"] > 0),
        ("BAD_DATA", found["masked_fraction"] > 0.5),
        ("MEASURE_FAILED", ~np.isfinite(found["flux_kron"])),
    ):
        flags[where] |= bits(name)
    return flags
