"""What an extension is to the image beside it: weight, variance, sigma, mask, or nothing that is used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from transforms.readers.image_header import Cards

WEIGHT, VARIANCE, SIGMA, SKY_SIGMA, INVERSE_SIGMA = "weight", "variance", "sigma", "sky_sigma", "inverse_sigma"
MASK, MASK_CP, MASK_LSST, MASK_PS1, MASK_ZTF = "mask", "mask_cp", "mask_lsst", "mask_ps1", "mask_ztf"
MASK_UNCLEAR = "mask_unclear"  #: Which of its values are good can't be told.
SCIENCE, NOT_USED = "science", "not_used"
#: Inverse variance is the plane to this power. The order is that of trust: where a file holds two, the first is taken.
POWERS = {SIGMA: -2, VARIANCE: -1, INVERSE_SIGMA: 2, SKY_SIGMA: -2, WEIGHT: 1}
#: Planes of which a pipeline says that they are the whole noise of a pixel, the photons of the source included.
WHOLE_NOISE = (SIGMA, VARIANCE, INVERSE_SIGMA)

#: The last word of EXTNAME or EXTTYPE ("SCI", "3-4.F.RMS", "DET11.DQ"). What is known and serves nothing here is
#: listed too: pixel areas, parts of a variance, exposure and context maps, skies, models.
_WORDS = {
    SCIENCE: "SCI SCIENCE DATA IMAGE IMG",
    WEIGHT: "WHT WEIGHT WEIGHTS WGT WT IVAR INVVAR IVM CONF CONFIDENCE",
    VARIANCE: "VARIANCE VAR STAT",
    SIGMA: "ERR ERROR ERRORS SIGMA UNCERT UNCERTAINTY UNC STDDEV STDEV NOISE",
    SKY_SIGMA: "RMS SKYRMS BKGRMS",
    MASK: "MASK MSK BPM FLG FLAG FLAGS DQ QUAL QUALITY BADPIX",
    NOT_USED: "D2IMARR WCSDVARR FOOTPRINT PSF PSFIMAGE AREA PIXAREA CON CTX CONTEXT EXP EXPMAP EXPOSURE NEXP NUM COV "
    "COVERAGE BKG BACK BACKGROUND SKY SEG SEGM SEGMENTATION SEGMAP OBJMASK MODEL RESID RESIDUAL RESIDUALS FLAT DARK "
    "BIAS WAVELENGTH THUMBNAIL PREVIEW",
}
_ROLES = {word: role for role, words in _WORDS.items() for word in words.split()}
#: astropy's CCDData writes the class of its uncertainty into UTYPE (NDUncertainty.uncertainty_type in other tools).
_UTYPES = {
    **dict.fromkeys(("STDDEVUNCERTAINTY", "STD"), SIGMA),
    **dict.fromkeys(("VARIANCEUNCERTAINTY", "VAR"), VARIANCE),
    **dict.fromkeys(("INVERSEVARIANCE", "IVAR"), WEIGHT),
    "UNKNOWNUNCERTAINTY": NOT_USED,
}
#: ESO's HDUCLAS2 and HDUCLAS3 (ESO-044286, section on associated errors and quality).
_ESO_ERRORS = {"MSE": VARIANCE, "RMSE": SIGMA, "INVMSE": WEIGHT, "INVRMSE": INVERSE_SIGMA}


@dataclass(frozen=True, slots=True)
class Plane:
    """What the header of one extension says of it.

    Parameters
    ----------
    role : str
        One of the roles of this module; empty where the name says nothing.
    stem : str
        EXTNAME without the word that gave the role, in upper case: planes of one detector share it.
    name : str
        EXTNAME in upper case.
    version : int
        EXTVER, 1 where it is not stated.
    science : str
        EXTNAME of the image it belongs to (SCIDATA), where that is stated.
    """

    role: str
    stem: str = ""
    name: str = ""
    version: int = 1
    science: str = ""


def plane_of(header: Any) -> Plane:
    """Read the role of an extension.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Of the extension.

    Returns
    -------
    Plane
        The class that ESO's or astropy's cards state goes before the name.
    """
    cards = Cards(header)
    name = cards.text("EXTNAME").upper()
    role, stem = _of_name(name)
    kind = cards.text("EXTTYPE").upper()
    role = _UTYPES.get(cards.text("UTYPE").upper()) or _eso(cards, role) or _ROLES.get(kind) or role
    if role == MASK and (kind or any(key.startswith("MP_") for key in header)):
        role = MASK_LSST
    version = int(cards.number("EXTVER") or 1)
    return Plane(role, stem, name, version, cards.text("SCIDATA").upper())


def _of_name(name: str) -> tuple[str, str]:
    if name.startswith("VAR_"):
        return NOT_USED, ""  # JWST: VAR_POISSON, VAR_RNOISE, VAR_FLAT are parts of ERR
    words = re.split(r"[.\-_:\s]+", name)
    role = _ROLES.get(re.sub(r"\d+\Z", "", words[-1])) or _ROLES.get(words[-1], "")
    return role, name[: len(name) - len(words[-1])].rstrip(".-_: ") if role else name


def _eso(cards: Cards, named: str) -> str | None:
    kind, detail = cards.text("HDUCLAS2").upper(), cards.text("HDUCLAS3").upper()
    if cards.text("HDUCLASS").upper() != "ESO" or not kind:
        return None
    if kind == "ERROR":
        return _ESO_ERRORS.get(detail) or (named if named in POWERS else NOT_USED)
    if kind == "QUALITY":
        return MASK if detail in ("", "FLAG16BIT", "FLAG32BIT") else MASK_UNCLEAR
    return SCIENCE if kind == "DATA" else None


def inverse_variance(role: str, values: np.ndarray) -> np.ndarray | None:
    """Turn a weight, variance or sigma plane into inverse variance.

    Parameters
    ----------
    role : str
        Role of the plane.
    values : ndarray, shape (ny, nx)
        Linear values.

    Returns
    -------
    ndarray of float64, shape (ny, nx), or None
        0 where the pixel is worthless; None for a plane that says nothing of noise.
    """
    if role not in POWERS:
        return None
    values = np.asarray(values, np.float64)
    good = np.isfinite(values) & (values > 0)
    return np.where(good, np.where(good, values, 1.0) ** POWERS[role], 0.0)
