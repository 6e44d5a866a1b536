"""Arithmetic on one-dimensional spectra: wavelengths, resampling, continuum, lines, cross-correlation."""
