"""Physical constants, each with its reference."""

C_KMS = 299_792.458  #: Speed of light in km/s, exact (SI, 2019).
AB_ZERO_NJY = 31.4  #: AB magnitude of 1 nJy: 2.5 log10(3631e9 nJy), Oke & Gunn (1983), doi:10.1086/160817.
MJD_ZERO_JD = 2_400_000.5  #: JD of MJD 0 (IAU).
