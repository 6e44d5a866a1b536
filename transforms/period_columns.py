"""Columns that ``transforms.period`` fills, and which of them models take as inputs."""

from __future__ import annotations

from transforms.columns import FLOAT32, FLOAT64, INT32, STRING, Column

_AMPLITUDE, _STAT, _COLOUR, _MAG = "src.var.amplitude", "stat.value;src.var", "phot.color", "phot.mag;stat.mean"

_PERIOD_COLUMNS = (
    Column("period", FLOAT64, "d", "src.var.period", "Best period; may be half the orbital one of a binary"),
    Column("period_err", FLOAT64, "d", "stat.error;src.var.period", "One sigma of the period, its alias being right"),
    Column("period_2", FLOAT64, "d", "src.var.period", "Runner-up period"),
    Column("period_3", FLOAT64, "d", "src.var.period", "Third period"),
    Column("period_double", FLOAT64, "d", "src.var.period", "Twice the best period; orbital for most binaries"),
    Column("double_gain", FLOAT32, "", "stat.fit.chi2;arith.ratio", "chi2 at twice the period over chi2 at the period"),
    Column("fap", FLOAT64, "", "stat.probability", "False-alarm probability of the highest peak (Baluev 2008)"),
    Column("period_power", FLOAT32, "", "stat.value", "Share of variance that a sine wave of the best period removes"),
    Column("period_margin", FLOAT32, "", "stat.likelihood", "Log evidence of the best period over the runner-up"),
    Column("period_score", FLOAT32, "", "stat.likelihood", "Log evidence of the best period over a constant"),
    Column("period_alias", STRING, "", "meta.code", "Runner-up's relation: day, two_days, year, harmonic or empty"),
)  # fmt: skip
_SAMPLING_COLUMNS = (
    Column("n_points", INT32, "", "meta.number", "Points in the file"),
    Column("n_good", INT32, "", "meta.number", "Points used"),
    Column("n_visits", INT32, "", "meta.number", "Visits: points of different bands within 15 minutes count once"),
    Column("n_bands", INT32, "", "meta.number", "Bands with good points"),
    Column("time_span", FLOAT64, "d", "time.duration", "First to last good point"),
    Column("reference_band", STRING, "", "instr.bandpass", "Band with most good points; amplitude is of it"),
    Column("time_system", STRING, "", "time.scale", "File's own time system, such as jd, hjd, bjd, btjd"),
    Column("flux_unit", STRING, "", "meta.unit", "Unit of fluxes: nJy where calibrated, else the file's"),
    Column("amplitude", FLOAT32, "mag", _AMPLITUDE, "5th to 95th percentile in the reference band"),
    Column("mean_flux", FLOAT64, "", "phot.flux;stat.median", "Median flux in the reference band, in flux_unit"),
)  # fmt: skip
_MEAN_COLUMNS = tuple(
    Column(f"mean_mag_{b}", FLOAT32, "mag", f"{_MAG};em.opt", f"AB magnitude of the median flux in {b}")
    for b in "ugrizy"
)
#: name, unit, UCD, sentence of the numbers that models take as well.
_FEATURES: tuple[tuple[str, str, str, str], ...] = (
    ("beyond_1_std", "", _STAT, "Share of points more than one standard deviation from the mean"),
    ("beyond_2_std", "", _STAT, "Share of points more than two standard deviations from the mean"),
    ("cusum", "", _STAT, "Range of the cumulative sum (Kim et al. 2014)"),
    ("eta_e", "", _STAT, "Von Neumann ratio for uneven sampling (Kim et al. 2014)"),
    ("range_90", "mag", _AMPLITUDE, "5th to 95th percentile"),
    ("range_50", "mag", _AMPLITUDE, "25th to 75th percentile"),
    ("kurtosis", "", _STAT, "Excess kurtosis of the magnitudes"),
    ("pct_ratio_40_5", "", _STAT, "40th to 60th percentile over 5th to 95th"),
    ("pct_ratio_20_5", "", _STAT, "20th to 80th percentile over 10th to 90th or wider (light-curve package)"),
    ("mad", "mag", _STAT, "Median absolute deviation"),
    ("near_median", "", _STAT, "Share of points within a tenth of the amplitude from the median"),
    ("chi2", "", "stat.fit.chi2", "Reduced chi2 of a constant"),
    ("skew", "", _STAT, "Skewness of the magnitudes; negative for outbursts"),
    ("std", "mag", "stat.stdev;src.var", "Standard deviation"),
    ("stetson_k", "", _STAT, "Stetson K (1996, PASP 108, 851)"),
    ("anderson_darling", "", _STAT, "Anderson-Darling statistic against a normal distribution"),
    ("excess_variance", "", _STAT, "Variance in excess of the errors, relative"),
    ("roms", "", _STAT, "Robust median statistic (Rose & Hintz 2007)"),
    ("trend", "mag / d", _STAT, "Slope of a straight line"),
    ("trend_error", "mag / d", "stat.error", "Error of the slope"),
    ("trend_noise", "mag", _STAT, "Scatter about the line"),
    ("sf_1", "", _STAT, "Log structure function up to 1 d, over the scatter of all points"),
    ("sf_10", "", _STAT, "The same for 1 to 10 d"),
    ("sf_100", "", _STAT, "The same for 10 to 100 d"),
    ("sf_1000", "", _STAT, "The same for 100 to 1000 d"),
    ("r21", "", _STAT, "Amplitude ratio of the second harmonic (Simon & Lee 1981)"),
    ("phi21", "rad", _STAT, "Phase difference of the second harmonic, cosine series in magnitudes"),
    ("r31", "", _STAT, "Amplitude ratio of the third harmonic"),
    ("phi31", "rad", _STAT, "Phase difference of the third harmonic"),
    ("r41", "", _STAT, "Amplitude ratio of the fourth harmonic"),
    ("phi41", "rad", _STAT, "Phase difference of the fourth harmonic"),
    ("fit_amplitude", "mag", _AMPLITUDE, "Peak to peak of the fitted series in the reference band"),
    ("rise", "", _STAT, "Share of the cycle from faintest to brightest"),
    ("above", "", _STAT, "Share of the cycle that is fainter than the middle"),
    ("explained", "", _STAT, "Share of the variance that the series removes"),
    ("residual_ratio", "", _STAT, "Scatter about the series over scatter of the points"),
    ("string", "", _STAT, "Squared steps between neighbours in phase over twice the variance"),
    ("minima_ratio", "", _STAT, "Depth of the second minimum over that of the first at twice the period"),
    ("flatness", "", _STAT, "Median less 5th percentile of magnitude over the full range"),
    ("burst_height", "", _STAT, "Log peak flux over the scatter of the faint half"),
    ("burst_width", "", _STAT, "Share of the time span between first and last point above half of the peak"),
    ("burst_share", "", _STAT, "Share of points above half of the peak"),
    ("burst_days", "dex(d)", "time.duration", "Log time between first and last point above half of the peak"),
    ("rise_days", "dex(d)", "time.duration", "Log time from the first point above half to the peak"),
    ("fall_days", "dex(d)", "time.duration", "Log time from the peak to the last point above half"),
    ("detected", "", _STAT, "Share of points above five sigma"),
    ("ratio_blue", "", _STAT, "Log scatter of the next bluer slot over that of the reference band"),
    ("ratio_red", "", _STAT, "Log scatter of the next redder slot over that of the reference band"),
    ("u_g", "mag", _COLOUR, "Colour of the median fluxes"),
    ("g_r", "mag", _COLOUR, "Colour of the median fluxes"),
    ("r_i", "mag", _COLOUR, "Colour of the median fluxes"),
    ("i_z", "mag", _COLOUR, "Colour of the median fluxes"),
)  # fmt: skip
FEATURES = tuple(f"lc_{name}" for name, *_ in _FEATURES)
COLUMNS = (
    *_PERIOD_COLUMNS,
    *_SAMPLING_COLUMNS,
    *_MEAN_COLUMNS,
    *(Column(f"lc_{name}", FLOAT32, unit, ucd, text) for name, unit, ucd, text in _FEATURES),
)
