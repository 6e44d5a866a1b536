"""One registry of flag bits. The decoder, ``nightcat describe`` and ``docs/flags.md`` come from it.

Bits are never re-used: 0 to 9 any record, 10 to 24 images and stamps, 25 to 39 spectra, 40 to 54 light curves,
55 to 62 models.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """One bit of the ``flags`` column.

    Parameters
    ----------
    bit : int
        0 to 62.
    name : str
        Upper case.
    sentence : str
        What it means for who uses the row.
    """

    bit: int
    name: str
    sentence: str

    @property
    def value(self) -> int:
        """The integer with only this bit set."""
        return 1 << self.bit


REGISTRY: tuple[Flag, ...] = (
    Flag(0, "NO_POSITION", "The file gives no sky position; ra and dec are null and the row lies under unplaced/."),
    Flag(1, "NO_TIME", "The file gives no time of observation; mjd is null."),
    Flag(2, "NO_ERROR", "The file gives no uncertainties; errors were estimated from the scatter of the data."),
    Flag(3, "BAD_DATA", "More than half of the data of this object is masked, missing or not finite."),
    Flag(4, "NO_DATA", "No usable data at all: every measured and learned number is null."),
    Flag(5, "MEASURE_FAILED", "A classical measurement was not possible; its columns are null."),
    Flag(6, "DUPLICATE_ID", "Another object of this file has the same identifier."),
    Flag(10, "EDGE", "The object touches the edge of the image, or its stamp is cut by it."),
    Flag(11, "SATURATED", "A saturated or bleeding pixel lies within the object."),
    Flag(12, "MASKED", "A masked pixel lies within the object."),
    Flag(13, "CORE_MASKED", "A masked pixel lies within the central 3 x 3 pixels."),
    Flag(14, "COSMIC_RAY", "A cosmic ray was found and masked within the object."),
    Flag(15, "DEBLENDED", "The object was separated from a neighbour that it shares pixels with."),
    Flag(16, "CROWDED", "A neighbour's light may bias the aperture by more than a tenth."),
    Flag(17, "KRON_MINIMUM", "The Kron radius was not measurable; the smallest allowed aperture was used."),
    Flag(18, "NO_WCS", "The image has no usable celestial WCS; the position is in pixels only."),
    Flag(19, "UNCALIBRATED", "The image has no zero point; fluxes are in the file's own unit and magnitudes are null."),
    Flag(20, "DISPLAY_IMAGE", "The stamp comes from a JPEG or PNG: display values, not photometry."),
    Flag(21, "LOW_WEIGHT", "The weight within the object is below a tenth of the image's median weight."),
    Flag(22, "FORCED", "Measured at a position of the target list, not at a detection."),
    Flag(23, "RESAMPLED", "The model's input was resampled to another pixel scale."),
    Flag(24, "BACKGROUND_POOR", "Less than a tenth of the image was free of sources; the background is uncertain."),
    Flag(25, "FRAME_UNKNOWN", "The file does not say whether wavelengths are heliocentric."),
    Flag(26, "AIR_ASSUMED", "The file does not say whether wavelengths are in air or vacuum; air was assumed."),
    Flag(27, "ARMS_DISAGREE", "The arms of the spectrograph give velocities or fluxes that disagree."),
    Flag(28, "TELLURIC", "Strong telluric or sky regions were masked out of the fit."),
    Flag(29, "LOW_SN", "The median signal-to-noise ratio of a resolution element is below 3."),
    Flag(30, "PARTIAL_COVERAGE", "Less than 70 percent of 3800 to 7300 Angstrom is covered."),
    Flag(31, "VELOCITY_UNCERTAIN", "The cross-correlation has a second peak of nearly equal height."),
    Flag(32, "NOT_CALIBRATED_TO_SURVEY", "The model was not adapted to this instrument (see `nightcat adapt`)."),
    Flag(33, "NOT_STELLAR", "No stellar template fits; the stellar parameters do not apply."),
    Flag(40, "FEW_POINTS", "Too few good points for the measurement; its columns are null."),
    Flag(41, "UNSORTED", "The file's times were not in order; they have been sorted."),
    Flag(42, "DUPLICATE_TIMES", "Points with equal time and band; the first was kept."),
    Flag(43, "OUTLIERS", "Points more than five robust standard deviations off were marked, not dropped."),
    Flag(44, "NEGATIVE_ERROR", "Errors that are zero, negative or a sentinel; those points are not used."),
    Flag(45, "TIME_ZERO_UNKNOWN", "The zero point or scale of the times is not stated."),
    Flag(46, "PERIOD_ALIAS", "A period at a daily, yearly or harmonic alias fits nearly as well."),
    Flag(47, "NOT_PERIODIC", "The false-alarm probability of the best period is above one percent."),
    Flag(48, "PERIOD_LONG", "The period is longer than a third of the time span."),
    Flag(49, "ONE_BAND", "Only one band; colours are null."),
    Flag(50, "PHASE_FOLDED", "The file holds phases, not times; no period was searched."),
    Flag(51, "TIME_COARSE", "The file's times are single-precision numbers, too coarse for periods below a few days."),
    Flag(52, "DIFFERENCE_FLUX", "The fluxes are differences from a template image, not all of the object's light."),
    Flag(55, "MODEL_FAILED", "The model gave no finite answer; the learned columns are null."),
    Flag(56, "OUT_OF_SUPPORT", "The input lies outside of what the model was trained on: do not trust the number."),
    Flag(57, "DISAGREE", "The learned and the classical answer disagree beyond their errors."),
    Flag(58, "AMBIGUOUS", "No class reaches a probability of one half."),
    Flag(59, "INPUT_TRUNCATED", "The input was longer than the model takes and was thinned evenly."),
    Flag(60, "NOVEL", "Farther from all training objects, in the model's embedding, than 99 percent of known objects."),
    Flag(61, "TAUGHT", "The object lies in a class taught by examples (see `nightcat teach`), named by taught_class."),
)
NAMES = {flag.name: flag for flag in REGISTRY}


def bits(*names: str) -> int:
    """Combine flags into one integer.

    Parameters
    ----------
    *names : str
        Names in the registry.

    Returns
    -------
    int
        The bits, or-ed.

    Raises
    ------
    KeyError
        For a name that the registry does not hold.
    """
    value = 0
    for name in names:
        value |= NAMES[name].value
    return value


def decode(value: int) -> tuple[str, ...]:
    """Name the flags that are set.

    Parameters
    ----------
    value : int
        A ``flags`` value.

    Returns
    -------
    tuple of str
        Names in the order of their bits; an unknown bit is named ``BIT_n``.
    """
    known = {flag.bit: flag.name for flag in REGISTRY}
    return tuple(known.get(bit, f"BIT_{bit}") for bit in range(63) if value >> bit & 1)
