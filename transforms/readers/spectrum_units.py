"""Units of wavelength axes and of flux densities: never guessed in silence.

A wavelength axis without a unit is Angstrom only where its values leave no other reading. Fluxes per unit frequency
become fluxes per unit wavelength, so that every later step sees one kind.
"""

from __future__ import annotations

import re

import numpy as np

from transforms.attempt import Unusable

#: Length units as headers spell them, in Angstrom.
LENGTHS = {
    "angstrom": 1.0, "angstroms": 1.0, "ang": 1.0, "a": 1.0, "aa": 1.0, "0.1nm": 1.0, "0.1 nm": 1.0,
    "nm": 10.0, "nanometer": 10.0, "nanometers": 10.0, "um": 1e4, "micron": 1e4, "microns": 1e4, "micrometer": 1e4,
    "mm": 1e7, "m": 1e10, "cm": 1e8,
}  # fmt: skip
UNSTATED_ABOVE = 3000.0  #: An axis that ends below may as well be nm or pixels, and one that ends above is Angstrom.
LOG_ABOVE = 6.0  #: log10 of 100 micron in Angstrom: what reaches further is no logarithm.
PIVOT = 5500.0  #: Angstrom, where a flux in a unit that nobody knows keeps its value.
_DECADES = (3.2, 1.2)  #: log10 of the shortest wavelength and the width that make numbers logarithms without a word.
_PER_FREQUENCY = re.compile(r"jy|jansky|hz|hertz", re.IGNORECASE)
_MAGNITUDE = re.compile(r"(?i)(\b|_)(ab|st|vega)?mag(nitudes?)?(\b|_)")


def length_unit(text: str) -> tuple[float, bool] | None:
    """Read the unit of a wavelength axis.

    Parameters
    ----------
    text : str
        ``"nm"``, ``"log10(Angstrom)"``, ...

    Returns
    -------
    tuple of (float, bool), or None
        The unit in Angstrom, and whether the axis holds its log10; None where it is no length.
    """
    bare = text.strip().lower()
    log = re.fullmatch(r"(?:log10|log|dex)\W*(.*?)\W*", bare)
    if log:
        bare = log.group(1)
        if bare in {"", "lambda", "wavelength"}:
            return 1.0, True
    if bare in LENGTHS:
        return LENGTHS[bare], bool(log)
    from astropy import units as u

    unit = u.Unit(text.strip() if not log else bare, parse_strict="silent")
    return (float(unit.to(u.AA)), bool(log)) if unit.is_equivalent(u.AA) else None


def to_angstrom(values: np.ndarray, unit: str, what: str, *, log: bool = False) -> np.ndarray:
    """Convert a wavelength axis to Angstrom.

    Parameters
    ----------
    values : ndarray
        The axis; NaN where missing.
    unit : str
        Its unit, empty where the file states none.
    what : str
        What the axis is, for messages: ``"column 'wave'"``.
    log : bool
        The file says that the axis is logarithmic. It counts only where the unit is Angstrom or none.

    Returns
    -------
    ndarray of float64
        Angstrom, in air or vacuum as the file has it.

    Raises
    ------
    Unusable
        For a unit that is not known, or none where the values do not tell.
    """
    values = np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)
    known = length_unit(unit) if unit.strip() else (1.0, False)
    if known is None:
        raise Unusable(f"wavelength unit {unit!r} of {what} is not known")
    factor, logarithm = known
    finite = values[np.isfinite(values)]
    low, top = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    if not logarithm and factor == 1.0 and top < LOG_ABOVE:
        logarithm = log or (low > _DECADES[0] and top - low < _DECADES[1])
    if logarithm:
        if top > LOG_ABOVE + 4:
            raise Unusable(f"logarithmic wavelengths up to 10^{top:.4g} in {what}")
        return np.asarray(factor * 10.0**values)
    if not unit.strip() and top < UNSTATED_ABOVE:
        raise Unusable(
            f"wavelengths up to {top:.6g} in {what} have no unit, and need not be Angstrom; state it (CUNIT1, TUNITn, "
            "or a name like wavelength_nm)"
        )
    return values * factor


def per_wavelength(
    wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray | None, unit: str
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Turn a flux density per unit frequency into one per unit wavelength.

    Parameters
    ----------
    wavelength : ndarray, shape (n,)
        Angstrom.
    flux : ndarray, shape (n,)
        In ``unit``.
    ivar : ndarray, shape (n,), or None
        In ``unit ** -2``.
    unit : str
        As the file states it.

    Returns
    -------
    flux : ndarray, shape (n,)
        F_lambda.
    ivar : ndarray, shape (n,), or None
        Its inverse variance.
    unit : str
        The unit now: unchanged where it is not per frequency.

    Raises
    ------
    Unusable
        For magnitudes.
    """
    if _MAGNITUDE.search(unit):
        raise Unusable(f"the flux is in magnitudes ({unit!r}), not a flux density")
    if not _PER_FREQUENCY.search(unit):
        return flux, ivar, unit
    at_pivot, name = _at_pivot(unit)
    factor = at_pivot * (PIVOT / wavelength) ** 2
    return flux * factor, None if ivar is None else ivar / factor**2, name


def _at_pivot(unit: str) -> tuple[float, str]:
    """F_lambda at the pivot of one ``unit``, and the name of the new unit."""
    from astropy import units as u

    parsed = u.Unit(unit, parse_strict="silent")
    for solid in ("", " sr"):
        target = u.Unit(f"erg / (s cm2 Angstrom{solid})")
        try:
            value = float((1.0 * parsed).to(target, u.spectral_density(PIVOT * u.AA)).value)
        except ValueError:  # not recognised, or (UnitConversionError) of another kind
            continue
        return value, str(target)
    return 1.0, f"F_lambda, at {PIVOT:.0f} Angstrom as in {unit}"
