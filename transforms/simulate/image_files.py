"""Simulated fields as FITS files: plain, tile-compressed, or with weight and mask beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LAYOUTS = ("plain", "compressed", "triple")


def write_field(folder: Path, name: str, field: Mapping[str, Any], layout: str = "triple") -> list[Path]:
    """Write one exposure.

    Parameters
    ----------
    folder : Path
        Must exist.
    name : str
        Stem of the file names, such as ``"c4d_261124_031500"``.
    field : mapping
        From ``simulate_field``.
    layout : str
        ``"plain"`` (one image in the primary HDU, scaled integers), ``"compressed"`` (RICE, with weight and mask as
        further extensions), or ``"triple"`` (``ooi``, ``oow``, ``ood`` files as the Legacy Survey has them).

    Returns
    -------
    list of Path
        What was written, the science file first. Bytes depend on the arguments alone.

    Raises
    ------
    ValueError
        For a layout that is not known.
    """
    from astropy.io import fits

    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r} is not one of {', '.join(LAYOUTS)}")
    header = fits.Header(list(field["header"].items()))
    if layout == "plain":
        hdu = fits.PrimaryHDU(np.clip(np.rint(field["flux"]), 0, 65535).astype(np.uint16), header)
        return [_write(folder / f"{name}.fits", [hdu])]
    if layout == "compressed":
        planes = [
            fits.CompImageHDU(field["flux"], header, name="SCI", compression_type="RICE_1", quantize_level=16),
            fits.ImageHDU(field["weight"], name="WHT"),  # lossless needs gzip, which writes the hour into its bytes
            fits.CompImageHDU((field["mask"] > 0).astype(np.int16), name="MASK", compression_type="PLIO_1"),
        ]
        return [_write(folder / f"{name}.fits.fz", [fits.PrimaryHDU(), *planes])]
    band, paths = field["camera"].band, []
    for kind, plane in (("ooi", "flux"), ("oow", "weight"), ("ood", "mask")):
        primary = fits.PrimaryHDU()
        for card in ("MJD-OBS", "EXPTIME", "FILTER", "MAGZERO", "INSTRUME", "PLVER", "TIMESYS"):
            primary.header[card] = header[card]
        path = folder / f"{name}_{kind}_{band}_sim.fits"
        paths.append(_write(path, [primary, fits.ImageHDU(field[plane], header, name="N1")]))
    return paths


def _write(path: Path, hdus: list[Any]) -> Path:
    from astropy.io import fits

    fits.HDUList(hdus).writeto(path, overwrite=True)
    # As tables: the sums of a compressed extension are those of the bytes on disk, not of the image within.
    with fits.open(path, mode="update", disable_image_compression=True, do_not_scale_image_data=True) as written:
        for hdu in written:
            hdu.add_checksum(when="simulated")  # a comment instead of the hour: equal input gives equal bytes
    return path
