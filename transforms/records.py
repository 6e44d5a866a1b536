"""The frozen elements that travel through the pipeline.

References (``FileRef``, ``Item``) are small, hashable and may cross a shuffle. Records hold arrays and never do:
they are decoded after the last shuffle before inference and dropped before the next one. An element's arrays are
never written to, because a sibling branch may hold the same element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRef:
    """One input file.

    Parameters
    ----------
    url : str
        Any fsspec URL or local path.
    source : str
        The name that rows carry: the path relative to the input that named the file.
    size : int
        Size in bytes.
    digest : str
        Hexadecimal SHA-256 of the file's bytes; empty where the file could not be read.
    """

    url: str
    source: str
    size: int = 0
    digest: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A reference to a part of a file that one worker decodes in one go.

    Parameters
    ----------
    file : FileRef
        The file.
    format : str
        Name of the ``Format`` that reads it.
    hdu : str
        FITS extension as ``"0"`` or ``"1"``; empty for files that have none.
    start, stop : int
        Rows (objects) of the extension, ``start <= row < stop``; ``stop = -1`` means all of them.
    section : tuple of int
        ``(y0, y1, x0, x1)`` for a tile of an image, in pixels of the full plane; empty for the whole.
    companions : tuple of tuple of str
        ``(role, url)`` of files that belong to this one, such as ``("weight", ".../x.oow.fits")``.
    """

    file: FileRef
    format: str
    hdu: str = ""
    start: int = 0
    stop: int = -1
    section: tuple[int, ...] = ()
    companions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Identity:
    """What every record knows of where it came from and where it lies on the sky.

    Parameters
    ----------
    source : str
        Name of the file (``FileRef.source``).
    hdu : str
        FITS extension, empty where there is none.
    row : int
        Zero-based row, aperture or detection number within the extension.
    object_id : str
        The file's own identifier where it has one, else made from position or source.
    ra, dec : float or None
        ICRS position in degrees; None where unknown.
    mjd : float or None
        Time of observation, middle of exposure, MJD; the scale is ``time_scale``.
    time_scale : str
        ``"utc"``, ``"tai"``, ``"tt"``, ``"tdb"`` (barycentric) or empty where the file does not say.
    flags : int
        Bits of ``transforms.flags``.
    measured : mapping of str to scalar
        What the classical steps measured so far, keyed by column name; a missing key is a null.
    """

    source: str
    hdu: str = ""
    row: int = 0
    object_id: str = ""
    ra: float | None = None
    dec: float | None = None
    mjd: float | None = None
    time_scale: str = ""
    flags: int = 0
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Image(Identity):
    """A calibrated or raw image plane, or a tile of one.

    Parameters
    ----------
    flux : ndarray of float32, shape (ny, nx)
        Pixel values in ``unit``; native byte order, C-contiguous; NaN only where ``mask`` is True.
    ivar : ndarray of float32, shape (ny, nx), or None
        Inverse variance of the sky noise, ``unit ** -2``; zero where the pixel is worthless.
    whole_noise : bool
        True where ``ivar`` is the whole noise of a pixel, photons of the sources included (sigma, variance planes).
    mask : ndarray of bool, shape (ny, nx)
        True = bad: not to be used.
    saturated : ndarray of bool, shape (ny, nx), or None
        Saturated or bleeding pixels (also True in ``mask``).
    wcs : object or None
        ``astropy.wcs.WCS`` of the **full plane** (celestial, two axes); None where the file has none.
    origin : tuple of int
        ``(y0, x0)`` of this tile within the full plane.
    core : tuple of int
        ``(y0, y1, x0, x1)`` in pixels of the full plane: a source belongs to the tile whose core holds its centroid.
    unit : str
        ``"nJy"`` where calibrated, else ``"adu"`` or what BUNIT says.
    zero_point : float or None
        AB magnitude of one ``unit``; None where unknown (then magnitudes are null).
    band : str
        Filter name, empty where unknown.
    exptime : float or None
        Exposure time in seconds.
    gain : float or None
        Electrons per ``unit``; None where unknown (no source Poisson noise can be added).
    saturation : float or None
        Level in ``unit`` above which a pixel is not linear.
    psf_fwhm : float or None
        Seeing in pixels where the file states it.
    """

    flux: np.ndarray
    ivar: np.ndarray | None = None
    whole_noise: bool = False
    mask: np.ndarray
    saturated: np.ndarray | None = None
    wcs: Any = None
    origin: tuple[int, int] = (0, 0)
    core: tuple[int, int, int, int] = (0, 0, 0, 0)
    unit: str = "adu"
    zero_point: float | None = None
    band: str = ""
    exptime: float | None = None
    gain: float | None = None
    saturation: float | None = None
    psf_fwhm: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cutout(Identity):
    """A stamp of one object on its native pixels.

    Parameters
    ----------
    flux : ndarray of float32, shape (n_band, ny, nx)
        Background-subtracted pixel values in ``unit`` (display values 0 to 255 for JPEG and PNG, ``unit = "display"``).
    ivar : ndarray of float32, shape (n_band, ny, nx), or None
        Inverse variance, ``unit ** -2``; None where the noise is not known.
    mask : ndarray of bool, shape (n_band, ny, nx)
        True = bad, outside of the parent image included.
    bands : tuple of str
        Filter of each plane; empty strings where unknown.
    pixel_scale : float or None
        arcsec per pixel.
    unit : str
        ``"nJy"``, ``"adu"``, ``"display"`` or what BUNIT says.
    zero_point : float or None
        AB magnitude of one ``unit``.
    psf_fwhm : float or None
        Pixels.
    """

    flux: np.ndarray
    ivar: np.ndarray | None = None
    mask: np.ndarray
    bands: tuple[str, ...] = ("",)
    pixel_scale: float | None = None
    unit: str = "adu"
    zero_point: float | None = None
    psf_fwhm: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spectrum(Identity):
    """One spectrum of one object, arms joined or one after another.

    Parameters
    ----------
    wavelength : ndarray of float64, shape (n,)
        Vacuum wavelength in Angstrom, strictly increasing (overlapping arms are merged by the reader).
    flux : ndarray of float32, shape (n,)
        Flux density per unit wavelength in ``unit``; finite (0 where masked).
    ivar : ndarray of float32, shape (n,), or None
        Inverse variance; 0 where worthless; None where the file has no error at all.
    mask : ndarray of bool, shape (n,)
        True = bad.
    unit : str
        As the file states, ``""`` where it does not; of a file in Jy, that of the flux per wavelength made from it.
    lsf_sigma : float or None
        Gaussian sigma of the line-spread function in km/s at 5500 Angstrom where known.
    frame : str
        ``"heliocentric"``, ``"barycentric"``, ``"topocentric"``, ``"rest"`` or empty where not stated.
    air : bool
        True where the file's own wavelengths were in air (they have been converted).
    z_header : float or None
        Redshift that the file itself claims; provenance, never an input of a model.
    instrument : str
        TELESCOP and INSTRUME of the file's header, empty where it has none: whose response a survey calibrates.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray | None = None
    mask: np.ndarray
    unit: str = ""
    lsf_sigma: float | None = None
    frame: str = ""
    air: bool = False
    z_header: float | None = None
    instrument: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LightCurve(Identity):
    """All observations of one object in one or more bands, sorted by time.

    Parameters
    ----------
    time : ndarray of float64, shape (n,)
        MJD (or days since an unstated zero, then flagged) in ``time_scale``; increasing.
    flux : ndarray of float64, shape (n,)
        Flux in ``unit``; may be negative.
    flux_err : ndarray of float64, shape (n,)
        One sigma, same unit; NaN where the file has none.
    band : ndarray of str, shape (n,)
        Filter name of each point.
    quality : ndarray of bool, shape (n,)
        True = bad (quality bits, sentinel values, outliers): kept in the record, not used.
    unit : str
        ``"nJy"``, ``"relative"`` (divided by the median), ``"electron/s"``, ...
    """

    time: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    band: np.ndarray
    quality: np.ndarray
    unit: str = "nJy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """One input, or part of one, that could not be processed, and why.

    Parameters
    ----------
    source, hdu, row, object_id
        As in ``Identity``; ``row = -1`` where the whole file or extension failed.
    stage : str
        The stage that refused it.
    task : str
        The task that refused it, empty where it came to none.
    error : str
        Class of the error.
    reason : str
        A sentence that names the thing and its value.
    digest : str
        SHA-256 of the file.
    url : str
        The file's full URL, from which a replay reads it again.
    """

    source: str
    hdu: str = ""
    row: int = -1
    object_id: str = ""
    stage: str
    task: str = ""
    error: str
    reason: str
    digest: str = ""
    url: str = ""
