"""What is to be generated, as the user asks for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from finetune.training_options import OptionsError
from transforms import bands as filters

METHODS = ("learned", "classical")
_CADENCE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>d|h|min)?\Z")
_DAYS = {"d": 1.0, "h": 1 / 24, "min": 1 / 1440}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is to be generated.

    Parameters
    ----------
    band : str
        Of light curves: a filter of the ugriz family that was not observed; empty for those that were.
    step, count : float, int
        Of light curves: days between moments, or moments over one period; both 0 for the moments of the visits.
    low, high : float
        Of spectra: Angstrom, vacuum, in the frame of the file.
    method : str
        ``"best"``, ``"learned"`` or ``"classical"``.
    observed : bool
        Write what was observed beside what was generated.
    """

    band: str = ""
    step: float = 0.0
    count: int = 0
    low: float = 0.0
    high: float = 0.0
    method: str = "best"
    observed: bool = False


def make_wanted(
    modality: str, *, band: str = "", cadence: str = "", wavelengths: str = "", method: str = "best",
    observed: bool = False,
) -> Wanted:  # fmt: skip
    """Check what is asked for.

    Parameters
    ----------
    modality : str
        Of the backbone.
    band : str
        Name of a filter.
    cadence : str
        ``"0.5d"``, ``"6h"``, ``"30min"``, or a number of moments over one period.
    wavelengths : str
        ``"LOW:HIGH"`` in Angstrom.
    method : str
        One of ``METHODS``, or ``"best"``.
    observed : bool
        As in ``Wanted``.

    Returns
    -------
    Wanted
        Checked.

    Raises
    ------
    OptionsError
        With every fault.
    """
    faults: list[str] = []
    if method not in (*METHODS, "best"):
        faults.append(f"method {method!r} is not one of best, {', '.join(METHODS)}")
    low = high = step = 0.0
    count = 0
    if modality == "spectra":
        faults += [
            f"{name} is of light curves, not of spectra" for name, v in (("band", band), ("cadence", cadence)) if v
        ]
        parts = wavelengths.split(":")
        try:
            low, high = (float(part) for part in parts)
        except ValueError:
            low = high = np.nan
        if not 0 < low < high:
            faults.append(f"range {wavelengths!r} is not LOW:HIGH in Angstrom, such as 3800:4500")
    else:
        if wavelengths:
            faults.append("range is of spectra, not of light curves")
        if not band and not cadence:
            faults.append("nothing is asked for: band, cadence, or both")
        if band and filters.sdss_like(band) not in filters.SLOTS:
            faults.append(f"band {band!r} is none of {', '.join(filters.SLOTS)}: the model has no other")
        if cadence:
            found = _CADENCE.match(cadence)
            value = float(found["number"]) if found else 0.0
            whole = bool(found) and not found["unit"]  # type: ignore[index]
            if not found or value <= 0 or (whole and (value != int(value) or not 2 <= value <= 100_000)):
                faults.append(f"cadence {cadence!r} is neither a time such as 0.5d, 6h, 30min nor a number of moments")
            elif whole:
                count = int(value)
            else:
                step = value * _DAYS[found["unit"]]
    if faults:
        raise OptionsError(faults)
    return Wanted(band=band, step=step, count=count, low=low, high=high, method=method, observed=observed)
