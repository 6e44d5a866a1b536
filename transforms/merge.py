"""What several alerts know of one object: each brings its own part of the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from transforms.attempt import Unusable
from transforms.records import LightCurve


def merge_light_curves(curves: Sequence[LightCurve]) -> LightCurve:
    """Join light curves of one object.

    Parameters
    ----------
    curves : sequence of LightCurve
        In the order in which they were sent; of the same unit and time scale.

    Returns
    -------
    LightCurve
        All observations by time, each exposure once (as the last alert has it); identity and position of the last.

    Raises
    ------
    Unusable
        Where units or time scales differ.
    """
    last = curves[-1]
    kinds = sorted({(curve.unit, curve.time_scale) for curve in curves})
    if len(kinds) > 1:
        raise Unusable(f"alerts of {last.object_id!r} in different units or time scales: {kinds}")
    time, band = (np.concatenate([getattr(c, name) for c in reversed(curves)]) for name in ("time", "band"))
    # by time, then by band; of equal ones the first, which the last alert has brought
    _, index = np.unique(np.rec.fromarrays((time, band)), return_index=True)
    flux, flux_err, quality = (
        np.concatenate([getattr(c, name) for c in reversed(curves)])[index] for name in ("flux", "flux_err", "quality")
    )
    flags = int(np.bitwise_or.reduce([curve.flags for curve in curves]))
    return replace(last, flags=flags, time=time[index], band=band[index], flux=flux, flux_err=flux_err, quality=quality)
