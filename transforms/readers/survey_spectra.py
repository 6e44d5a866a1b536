"""Spectra as the large surveys write them; each survey has a module of its own."""

from __future__ import annotations

from transforms.readers import aaomega_spectra, apogee_spectra, desi_spectra, lamost_spectra, sdss_spectra

#: In the order in which they are tried.
FORMATS = (
    *lamost_spectra.FORMATS,
    *sdss_spectra.FORMATS,
    *apogee_spectra.FORMATS,
    *desi_spectra.FORMATS,
    *aaomega_spectra.FORMATS,
)
