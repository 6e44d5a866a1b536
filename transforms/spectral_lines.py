"""Lines and bands of stellar spectra by name, in vacuum: what a part of a spectrum is called.

Lines: NIST Atomic Spectra Database (Kramida et al., doi:10.18434/T4W30F), vacuum wavelengths. CH, CN, MgH and TiO in
the blue and green: bands of the Lick system (Worthey et al. 1994, ApJS 94, 687). TiO and CaH in the red: Reid, Hawley &
Gizis (1995, AJ 110, 1838). Heads of the other TiO bands, which fade to the red: Gray & Corbally (2009), Stellar
Spectral Classification.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from transforms.constants import C_KMS
from transforms.numerics.spectra.wavelengths import air_to_vacuum

BALMER_KMS = 1500.0  #: Half-width of a Balmer line's window; the wings of A stars reach further, but hold little.
LINE_KMS = 500.0  #: Half-width of any other line's window: some resolution elements of a survey spectrograph.
#: Name, vacuum Angstrom, half-width in km/s.
LINES: tuple[tuple[str, float, float], ...] = (
    ("H 10", 3798.98, BALMER_KMS / 2), ("H 9, Mg I 3838", 3836.47, BALMER_KMS / 2), ("H 8", 3890.16, BALMER_KMS / 2),
    ("H delta", 4102.89, BALMER_KMS), ("H gamma", 4341.68, BALMER_KMS),
    ("H beta", 4862.68, BALMER_KMS), ("H alpha", 6564.61, BALMER_KMS),
    ("Ca II K", 3934.78, 1100.0), ("Ca II H, H epsilon", 3970.40, 1100.0),
    ("Ca I 4227", 4227.92, LINE_KMS), ("Sr II 4078", 4078.86, LINE_KMS), ("Ba II 4554", 4555.31, LINE_KMS),
    ("Fe I 4046", 4046.96, LINE_KMS), ("Fe I 4064", 4064.74, LINE_KMS), ("Fe I 4072", 4072.89, LINE_KMS),
    ("Fe I 4144", 4145.04, LINE_KMS), ("Fe I 4272", 4272.96, LINE_KMS), ("Fe I 4325", 4326.98, LINE_KMS),
    ("He I 4026", 4027.33, LINE_KMS), ("He I 4471", 4472.73, LINE_KMS), ("He I 5876", 5877.25, LINE_KMS / 2),
    ("He II 4686", 4687.02, LINE_KMS), ("Mg II 4481", 4482.44, LINE_KMS),
    ("Cr I 5206", 5207.50, LINE_KMS), ("Na D", 5894.57, 700.0),
    ("Ca II 8500", 8500.36, LINE_KMS), ("Ca II 8544", 8544.44, LINE_KMS), ("Ca II 8664", 8664.52, LINE_KMS),
)  # fmt: skip
#: Name, and its edges in **air**, Angstrom.
BANDS: tuple[tuple[str, float, float], ...] = (
    ("CN region 3883", 3855.0, 3883.4), ("CN region 4160", 4142.125, 4177.125), ("G band (CH)", 4281.375, 4316.375),
    ("Fe I 4383", 4369.125, 4420.375), ("Ca I 4455", 4444.0, 4474.625), ("Fe I 4531", 4514.250, 4559.250),
    ("C2 4668", 4634.000, 4720.250), ("TiO region 4761", 4761.0, 4830.0), ("TiO region 4954", 4954.0, 5000.0),
    ("Fe I 5015", 5000.0, 5054.000), ("MgH", 5069.125, 5134.125), ("Mg b", 5160.125, 5192.625),
    ("Fe I 5227", 5222.0, 5236.0), ("Fe I 5270", 5245.650, 5285.650), ("Fe I 5335", 5312.125, 5352.125),
    ("Fe I 5406", 5387.500, 5415.000), ("TiO region 5448", 5448.0, 5530.0), ("Fe I 5709", 5696.625, 5720.375),
    ("Fe I 5782", 5776.625, 5796.625), ("TiO region 5847", 5847.0, 5876.0), ("TiO region 5937", 5936.625, 5994.125),
    ("Ca I 6122", 6118.0, 6126.5), ("TiO region 6158", 6158.0, 6189.0), ("TiO region 6190", 6189.625, 6272.125),
    ("CaH region 6385", 6380.0, 6390.0), ("TiO region 6651", 6651.0, 6710.0), ("CaH region 6814", 6814.0, 6990.0),
    ("TiO region 7053", 7053.0, 7135.0),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Feature:
    """A line or a band.

    Parameters
    ----------
    name : str
        As astronomers say it.
    low, high : float
        Edges, vacuum Angstrom.
    """

    name: str
    low: float
    high: float

    @property
    def centre(self) -> float:
        """Middle, vacuum Angstrom."""
        return (self.low + self.high) / 2


@cache
def features() -> tuple[Feature, ...]:
    """All lines and bands.

    Returns
    -------
    tuple of Feature
        By wavelength of their middles.
    """
    lines = [Feature(name, at * (1 - half / C_KMS), at * (1 + half / C_KMS)) for name, at, half in LINES]
    bands = [Feature(name, *map(float, air_to_vacuum(np.array([low, high])))) for name, low, high in BANDS]
    return tuple(sorted([*lines, *bands], key=lambda feature: feature.centre))


def name_features(wavelength: np.ndarray) -> tuple[str, ...]:
    """What each wavelength belongs to; a region of CN, TiO or CaH is what the name says in cool stars only.

    Parameters
    ----------
    wavelength : ndarray, shape (n,)
        Vacuum Angstrom, in the star's rest frame.

    Returns
    -------
    tuple of str
        Name of the line or band; where several overlap, the one whose middle is nearest in units of its half-width;
        empty where there is none.
    """
    best = np.full(wavelength.size, np.inf)
    name = np.full(wavelength.size, "", dtype=object)
    for feature in features():
        apart = np.abs(wavelength - feature.centre) / (feature.high - feature.low) * 2
        nearer = (apart <= 1) & (apart < best)
        best[nearer], name[nearer] = apart[nearer], feature.name
    return tuple(name.tolist())
