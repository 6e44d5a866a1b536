"""The celestial coordinate system of a FITS image, distortions included, or none."""

from __future__ import annotations

import warnings
from typing import Any


def celestial_wcs(header: Any, hdus: Any = None) -> Any:
    """Read the two celestial axes of a header.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Of the image.
    hdus : astropy.io.fits.HDUList, optional
        The file, where lookup-table distortions (``D2IMARR``, ``WCSDVARR``) lie.

    Returns
    -------
    astropy.wcs.WCS or None
        With TPV, TNX, SIP and lookup distortions applied by wcslib and astropy; None where the header has no pair of
        celestial axes, where the axes are of no frame on the sky (a picture of the Sun), or can't be parsed. Rows
        then carry the flag ``NO_WCS``.
    """
    from astropy.io.fits.verify import VerifyError
    from astropy.wcs import WCS, WcsError
    from astropy.wcs.utils import wcs_to_celestial_frame

    if "CTYPE1" not in header:
        return None
    with warnings.catch_warnings():
        # Old keywords (RADECSYS, PC001001, dates of the last century) are repaired by wcslib, which tells so each time.
        warnings.simplefilter("ignore")
        try:
            full = WCS(header, fobj=hdus)
            if not full.has_celestial:
                return None
            # Dropping axes would drop the distortions too, so it is only done where there are axes to drop.
            wcs = full if full.naxis == 2 else full.celestial
            wcs_to_celestial_frame(wcs)
            if not _is_regular(wcs):
                return None
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError, WcsError, VerifyError):
            return None
    return wcs


def _is_regular(wcs: Any) -> bool:
    """False for a matrix of zeros or one that can't be inverted."""
    import numpy as np

    matrix = wcs.pixel_scale_matrix
    return bool(np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 0)
