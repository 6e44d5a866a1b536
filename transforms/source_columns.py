"""Columns of a source: measured in an image, or in a stamp that came alone. One set, as both land in one table."""

from __future__ import annotations

from transforms.columns import BOOL, FLOAT32, FLOAT64, INT32, STRING, Column, unique
from transforms.morphology import COLUMNS as MORPHOLOGY
from transforms.numerics.photometry import RADII

_FLUX, _MAG, _SIZE = "phot.flux", "phot.mag", "phys.angSize"


def _apertures() -> list[Column]:
    out = []
    for radius in RADII:
        name, text = f"flux_aper_{radius:.0f}", f"Flux within {radius:.0f} native pixels of the centroid, in flux_unit"
        out.append(Column(name, FLOAT32, "", _FLUX, text))
        out.append(Column(f"{name}_err", FLOAT32, "", f"stat.error;{_FLUX}", f"Standard error of {name}"))
    return out


#: Order of the catalog. Fluxes are in the unit that ``flux_unit`` names, since not every image is calibrated.
SOURCE = (
    Column("x", FLOAT64, "pix", "pos.cartesian.x;instr.det", "Centroid in the full plane, first pixel is 0"),
    Column("y", FLOAT64, "pix", "pos.cartesian.y;instr.det", "Centroid in the full plane, first pixel is 0"),
    Column("x_err", FLOAT32, "pix", "stat.error;pos.cartesian.x", "Standard error of x"),
    Column("y_err", FLOAT32, "pix", "stat.error;pos.cartesian.y", "Standard error of y"),
    Column("pos_err", FLOAT32, "arcsec", "stat.error;pos.eq", "Standard error of the position on each axis"),
    Column("band", STRING, "", "instr.filter", "Filter; of a stamp of several bands, joined by commas"),
    Column("exptime", FLOAT32, "s", "time.duration;obs.exposure", "Exposure time"),
    Column("pixel_scale", FLOAT32, "arcsec / pix", "instr.pixel", "Side of a pixel on the sky"),
    Column("psf_fwhm", FLOAT32, "pix", "instr.obsty.seeing", "Seeing that the file states"),
    Column("flux_unit", STRING, "", "meta.unit", "Unit of all fluxes of the row: nJy, or the file's own"),
    Column("zero_point", FLOAT32, "mag", "phot.mag;arith.zp", "AB magnitude of one flux_unit"),
    Column("flux_kron", FLOAT32, "", _FLUX, "Flux in 2.5 Kron radii, at least 3.5 pixels (Kron 1980), in flux_unit"),
    Column(
        "flux_kron_err", FLOAT32, "", f"stat.error;{_FLUX}", "Its standard error: sky, and source where gain is known"
    ),
    Column("mag_kron", FLOAT32, "mag", _MAG, "AB magnitude of flux_kron, extinction not taken off"),
    Column("mag_kron_err", FLOAT32, "mag", f"stat.error;{_MAG}", "Standard error of mag_kron"),
    Column("kron_radius", FLOAT32, "pix", _SIZE, "Mean radius of the Kron ellipse, the factor 2.5 included"),
    *_apertures(),
    Column("snr", FLOAT32, "", "stat.snr", "flux_kron over its error"),
    Column("snr_peak", FLOAT32, "", "stat.snr", "Brightest pixel over the sky noise"),
    Column("a", FLOAT32, "pix", "phys.angSize.smajAxis", "Standard deviation of the light along the major axis"),
    Column("b", FLOAT32, "pix", "phys.angSize.sminAxis", "Standard deviation of the light along the minor axis"),
    Column("theta", FLOAT32, "deg", "pos.posAng", "Position angle of the major axis, east of north"),
    Column("theta_pixel", FLOAT32, "deg", "pos.posAng;instr.det", "Angle of the major axis from x towards y"),
    Column("fwhm", FLOAT32, "pix", _SIZE, "2 sqrt(ln 2 (a2 + b2)): full width for a Gaussian"),
    Column("r20", FLOAT32, "pix", _SIZE, "Radius of a circle with 20 percent of flux_kron"),
    Column("r50", FLOAT32, "pix", _SIZE, "Radius of a circle with 50 percent of flux_kron"),
    Column("r80", FLOAT32, "pix", _SIZE, "Radius of a circle with 80 percent of flux_kron"),
    Column("n_pixels", INT32, "", "meta.number", "Pixels of the source above the threshold"),
    Column("masked_fraction", FLOAT32, "", "meta.code.qual", "Share of masked pixels in the Kron ellipse"),
    Column("background", FLOAT32, "", "instr.skyLevel", "Sky level that was subtracted, in flux_unit a pixel"),
    Column("background_rms", FLOAT32, "", "instr.skyLevel;stat.stdev", "Sky noise in a pixel, in flux_unit"),
    Column("is_forced", BOOL, "", "meta.code", "Measured at a position of the target list"),
)
COLUMNS = unique((*SOURCE, *MORPHOLOGY))
