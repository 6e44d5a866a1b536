"""Files of simulated spectra in the layouts of surveys: the twins of the real ones that the readers take."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from transforms.numerics.spectra.wavelengths import vacuum_to_air
from transforms.records import Spectrum
from transforms.simulate.spectra import Simulated, simulate_spectra


def _position(header: fits.Header, spectrum: Spectrum, keys: tuple[str, str] = ("RA", "DEC")) -> None:
    header[keys[0]], header[keys[1]] = spectrum.ra, spectrum.dec


def write_fits_1d(path: Path, star: Simulated, *, log: bool = False, air: bool | None = False) -> None:
    """Write a one-dimensional FITS image with a linear or logarithmic WCS and the error in a second image.

    Parameters
    ----------
    path : Path
        File to write.
    star : Simulated
        On a linear grid, or on a logarithmic one for ``log``; taken as vacuum wavelengths whatever ``air`` says.
    log : bool
        CRVAL1 and CDELT1 hold log10 of the wavelength.
    air : bool or None
        The header calls the axis AWAV or WAVE; None says nothing.
    """
    spectrum = star.spectrum
    axis = np.log10(spectrum.wavelength) if log else spectrum.wavelength
    hdu = fits.PrimaryHDU(np.where(spectrum.mask, np.nan, spectrum.flux).astype(np.float32))
    hdu.header["CRVAL1"], hdu.header["CDELT1"], hdu.header["CRPIX1"] = (
        axis[0],
        (axis[-1] - axis[0]) / (axis.size - 1),
        1.0,
    )
    if log:
        hdu.header["DC-FLAG"] = 1
    if air is not None:
        hdu.header["VACUUM"] = not air
    hdu.header["OBJECT"], hdu.header["MJD-OBS"] = spectrum.object_id, spectrum.mjd
    _position(hdu.header, spectrum)
    with np.errstate(divide="ignore"):
        error = np.where(spectrum.mask, np.nan, 1.0 / np.sqrt(_ivar(spectrum))).astype(np.float32)
    fits.HDUList([hdu, fits.ImageHDU(error, name="ERROR")]).writeto(path, overwrite=True)


def _ivar(spectrum: Spectrum) -> np.ndarray:
    if spectrum.ivar is None:
        raise ValueError(f"{spectrum.object_id} has no inverse variance to write")
    return spectrum.ivar


def write_lamost(path: Path, star: Simulated) -> None:
    """Write a LAMOST spectrum of the first data releases.

    Parameters
    ----------
    path : Path
        File to write.
    star : Simulated
        On the ``lamost`` grid.
    """
    spectrum = star.spectrum
    bad = spectrum.mask.astype(np.float32)
    planes = np.stack([spectrum.flux, _ivar(spectrum), np.ones_like(spectrum.flux), bad, bad]).astype(np.float32)
    hdu = fits.PrimaryHDU(planes)
    header = hdu.header
    header["TELESCOP"], header["VACUUM"], header["HELIO"], header["HELIO_RV"] = "LAMOST", True, True, 0.0
    header["COEFF0"], header["COEFF1"] = float(np.log10(spectrum.wavelength[0])), 1e-4
    header["DESIG"], header["MJD-OBS"] = spectrum.object_id, spectrum.mjd
    _position(header, spectrum)
    hdu.writeto(path, overwrite=True)


def write_sdss_spec(path: Path, star: Simulated) -> None:
    """Write a ``spec-*.fits`` of SDSS.

    Parameters
    ----------
    path : Path
        File to write.
    star : Simulated
        On the ``sdss`` grid.
    """
    spectrum = star.spectrum
    primary = fits.PrimaryHDU()
    header = primary.header
    header["TELESCOP"], header["PLATEID"], header["MJD"], header["FIBERID"] = "SDSS 2.5-M", 1, int(spectrum.mjd or 0), 7
    header["BUNIT"], header["TAI"] = "1E-17 erg/cm^2/s/Ang", (spectrum.mjd or 0.0) * 86_400.0
    _position(header, spectrum, ("PLUG_RA", "PLUG_DEC"))
    columns = {
        "flux": ("E", spectrum.flux),
        "loglam": ("E", np.log10(spectrum.wavelength)),
        "ivar": ("E", _ivar(spectrum)),
        "and_mask": ("J", np.where(spectrum.mask, 1 << 24, 0)),
        "wdisp": ("E", np.ones(spectrum.flux.size)),
    }
    table = fits.BinTableHDU.from_columns([fits.Column(n, f, array=a) for n, (f, a) in columns.items()], name="COADD")
    fits.HDUList([primary, table]).writeto(path, overwrite=True)


def write_sdss_plate(path: Path, stars: Sequence[Simulated]) -> None:
    """Write a ``spPlate-*.fits`` of SDSS: flux, inverse variance, masks, dispersion, plug map.

    Parameters
    ----------
    path : Path
        File to write.
    stars : sequence of Simulated
        All on the ``sdss`` grid; one fibre each.
    """
    spectra = [star.spectrum for star in stars]
    flux = fits.PrimaryHDU(np.stack([s.flux for s in spectra]).astype(np.float32))
    header = flux.header
    header["PLATEID"], header["MJD"] = 2, int(spectra[0].mjd or 0)
    header["COEFF0"], header["COEFF1"] = float(np.log10(spectra[0].wavelength[0])), 1e-4
    header["TAI-BEG"] = header["TAI-END"] = (spectra[0].mjd or 0.0) * 86_400.0
    bad = np.stack([np.where(s.mask, 1 << 24, 0) for s in spectra]).astype(np.int32)
    others: list[Any] = [fits.ImageHDU(np.stack([_ivar(s) for s in spectra]).astype(np.float32))]
    others += [fits.ImageHDU(bad), fits.ImageHDU(bad), fits.ImageHDU(np.ones_like(flux.data))]
    plug = [
        fits.Column("OBJTYPE", "16A", array=["STAR"] * len(spectra)),
        fits.Column("RA", "D", array=[s.ra for s in spectra]),
        fits.Column("DEC", "D", array=[s.dec for s in spectra]),
    ]
    fits.HDUList([flux, *others, fits.BinTableHDU.from_columns(plug, name="PLUGMAP")]).writeto(path, overwrite=True)


def write_desi_coadd(path: Path, stars: Sequence[Simulated]) -> None:
    """Write a DESI coadd with the arms B and R, which overlap between 5760 and 5800 Angstrom.

    Parameters
    ----------
    path : Path
        File to write.
    stars : sequence of Simulated
        All on the ``desi`` grid; one target each.
    """
    spectra = [star.spectrum for star in stars]
    wavelength = spectra[0].wavelength
    targets = np.arange(len(spectra)) + 39_633_345_008_634_465
    fibermap = [
        fits.Column("TARGETID", "K", array=targets),
        fits.Column("TARGET_RA", "D", array=[s.ra for s in spectra]),
        fits.Column("TARGET_DEC", "D", array=[s.dec for s in spectra]),
        fits.Column("OBJTYPE", "3A", array=["TGT"] * len(spectra)),
    ]
    exposures = [fits.Column("TARGETID", "K", array=targets), fits.Column("MJD", "D", array=[s.mjd for s in spectra])]
    hdus: list[Any] = [
        fits.PrimaryHDU(),
        fits.BinTableHDU.from_columns(fibermap, name="FIBERMAP"),
        fits.BinTableHDU.from_columns(exposures, name="EXP_FIBERMAP"),
    ]
    shared = (wavelength > 5759.9) & (wavelength < 5800.1)
    for arm, part, sign in (("B", wavelength < 5800.1, 1.0), ("R", wavelength > 5759.9, -1.0)):
        ivar = np.stack([_ivar(s) for s in spectra])
        halved = np.where(shared, 0.5 * ivar, ivar)
        shift = np.where(shared, sign / np.sqrt(np.maximum(ivar, 1e-30)), 0.0)  # cancels in the mean of the two arms
        flux = np.stack([s.flux for s in spectra]) + np.where(ivar > 0, shift, 0.0)
        hdus.append(fits.ImageHDU(wavelength[part], name=f"{arm}_WAVELENGTH"))
        hdus.append(fits.ImageHDU(flux[:, part].astype(np.float32), name=f"{arm}_FLUX"))
        hdus.append(fits.ImageHDU(halved[:, part].astype(np.float32), name=f"{arm}_IVAR"))
        hdus.append(fits.ImageHDU((ivar <= 0)[:, part].astype(np.int32), name=f"{arm}_MASK"))
    fits.HDUList(hdus).writeto(path, overwrite=True)


def write_aaomega(path: Path, star: Simulated, *, log: bool = False, vacuum: bool = True) -> None:
    """Write a spectrum of 2dF as Marz takes it; the linear header stays behind in the logarithmic form, as there.

    Parameters
    ----------
    path : Path
        File to write.
    star : Simulated
        On the ``aaomega`` grid.
    log : bool
        The WAVELENGTH image holds log10.
    vacuum : bool
        False writes air wavelengths and no VACUUM card.
    """
    spectrum = star.spectrum
    wavelength = spectrum.wavelength if vacuum else vacuum_to_air(spectrum.wavelength)
    hdu = fits.PrimaryHDU(np.where(spectrum.mask, np.nan, spectrum.flux).astype(np.float32))
    header = hdu.header
    header["TELESCOP"], header["UTMJD"], header["CTYPE1"], header["CUNIT1"] = (
        "Anglo-Australian Telescope",
        spectrum.mjd,
        "Wavelength",
        "Angstroms",
    )
    header["CRVAL1"], header["CDELT1"], header["CRPIX1"] = spectrum.wavelength[0], 1.04, 1.0
    if vacuum:
        header["VACUUM"] = True
    if log:
        header["LOGSCALE"] = True
    with np.errstate(divide="ignore"):
        variance = np.where(spectrum.mask, np.nan, 1.0 / _ivar(spectrum)).astype(np.float32)
    fibres = [
        fits.Column("NAME", "80A", array=[spectrum.object_id]),
        fits.Column("RA", "D", array=[np.radians(spectrum.ra or 0.0)]),
        fits.Column("DEC", "D", array=[np.radians(spectrum.dec or 0.0)]),
        fits.Column("TYPE", "1A", array=["P"]),
    ]
    waves = fits.ImageHDU(np.log10(wavelength) if log else wavelength, name="WAVELENGTH")
    table = fits.BinTableHDU.from_columns(fibres, name="FIBRES")
    fits.HDUList([hdu, fits.ImageHDU(variance, name="VARIANCE"), waves, table]).writeto(path, overwrite=True)


def write_csv(path: Path, stars: Sequence[Simulated]) -> None:
    """Write one CSV of many spectra, a row for each pixel.

    Parameters
    ----------
    path : Path
        File to write.
    stars : sequence of Simulated
        On any grid.
    """
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["object_id", "ra", "dec", "wavelength_vac", "flux", "ivar", "mask"])
        for star in stars:
            s = star.spectrum
            for wave, flux, ivar, bad in zip(s.wavelength, s.flux, _ivar(s), s.mask, strict=True):
                writer.writerow(
                    [s.object_id, s.ra, s.dec, repr(float(wave)), repr(float(flux)), repr(float(ivar)), int(bad)]
                )


def write_ecsv(path: Path, star: Simulated) -> None:
    """Write an ECSV with units and metadata, wavelengths in nanometre and in air.

    Parameters
    ----------
    path : Path
        File to write.
    star : Simulated
        On any grid.
    """
    from astropy import units as u
    from astropy.table import Table

    s = star.spectrum
    meta = {"object_id": s.object_id, "ra": s.ra, "dec": s.dec, "mjd": s.mjd, "time_scale": "utc", "air": True}
    table = Table(meta={**meta, "frame": "heliocentric"})
    table["wavelength"] = vacuum_to_air(s.wavelength) / 10.0 * u.nm
    table["flux"] = s.flux
    with np.errstate(divide="ignore"):
        table["flux_error"] = np.where(s.mask, np.nan, 1.0 / np.sqrt(_ivar(s)))
    table.write(path, format="ascii.ecsv", overwrite=True)


def lay_out(folder: Path, n: int, seed: int) -> list[dict[str, Any]]:
    """Write a mixture of files of all kinds for a simulated night.

    Parameters
    ----------
    folder : Path
        Existing folder.
    n : int
        Stars for each kind of file; kinds that hold one star get ``n`` files.
    seed : int
        Of all chance.

    Returns
    -------
    list of dict
        ``source`` (file name), ``row``, ``object_id`` (where the file keeps it) and the truth of each star.
    """
    rows: list[dict[str, Any]] = []

    def note(name: str, row: int, star: Simulated) -> None:
        rows.append({"source": name, "row": row, "object_id": star.spectrum.object_id, **star.truth})

    single = (("lamost", "fits", write_lamost), ("sdss", "fits", write_sdss_spec), ("linear", "ecsv", write_ecsv))
    for number, (kind, ending, write) in enumerate(single):
        for k, star in enumerate(simulate_spectra(n, seed + number, kind)):
            name = f"{kind}-{seed}-{k:04d}.{ending}"
            write(folder / name, star)
            note(name, 0, star)
    for k, star in enumerate(simulate_spectra(n, seed + 3, "linear")):
        name = f"linear-{seed}-{k:04d}.fits"
        write_fits_1d(folder / name, star)
        note(name, 0, star)
    for k, star in enumerate(simulate_spectra(n, seed + 4, "aaomega")):
        name = f"aaomega-{seed}-{k:04d}.fits"
        write_aaomega(folder / name, star, log=bool(k % 2), vacuum=bool(k % 3))
        note(name, 0, star)
    many = (("sdss", "fits", write_sdss_plate), ("desi", "fits", write_desi_coadd), ("lamost", "csv", write_csv))
    for number, (kind, ending, write_all) in enumerate(many):
        name, stars = f"{kind}-{seed}-many.{ending}", simulate_spectra(n, seed + 5 + number, kind)
        write_all(folder / name, stars)
        for row, star in enumerate(stars):
            note(name, row, star)
    return rows
