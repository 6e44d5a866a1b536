"""JPEG and PNG stamps: display values, useful for morphology and never for photometry."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial

import numpy as np

from transforms.attempt import Unreadable, Unusable
from transforms.flags import bits
from transforms.readers.format import Entry, Format, Source
from transforms.records import Cutout, Item

SMALLEST, LARGEST = 16, 2048  #: Pixels of a side.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
#: Positions in a name: degrees of FIRST stamps ("0.878_0.466_3_Proctor_Tab1.png"), and "J123456.7+012345.6".
_DEGREES = re.compile(r"(?P<ra>\d{1,3}\.\d+)_(?P<dec>[+-]?\d{1,2}\.\d+)(?:_|\Z)")
_SEXAGESIMAL = re.compile(r"J(\d{2})(\d{2})(\d{2}(?:\.\d+)?)([+-])(\d{2})(\d{2})(\d{2}(?:\.\d+)?)")


def position_of_name(name: str) -> tuple[float | None, float | None]:
    """Read the position that a file name states.

    Parameters
    ----------
    name : str
        Without folder and ending.

    Returns
    -------
    ra, dec : float or None
        Degrees; None where the name states none that lies on the sky.
    """
    if match := _DEGREES.match(name):
        ra, dec = float(match["ra"]), float(match["dec"])
    elif match := _SEXAGESIMAL.search(name):
        ra = 15 * (int(match[1]) + int(match[2]) / 60 + float(match[3]) / 3600)
        dec = int(match[5]) + int(match[6]) / 60 + float(match[7]) / 3600
        dec = -dec if match[4] == "-" else dec
    else:
        return None, None
    return (ra, dec) if 0 <= ra < 360 and -90 <= dec <= 90 else (None, None)


def _sniff(source: Source) -> bool:
    return source.head.startswith(_MAGIC)


def _items(source: Source) -> list[Item]:
    return [Item(file=source.file, format="display_stamp")]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(0, partial(load_stamp, source), _stem(source))


def _stem(source: Source) -> str:
    return source.url.rstrip("/").rsplit("/", 1)[-1].rsplit(".", 1)[0]


def load_stamp(source: Source) -> Cutout:
    """Decode a display image.

    Parameters
    ----------
    source : Source
        The opened file.

    Returns
    -------
    Cutout
        Values 0 to 255; three planes (red, green, blue) or one where the image is grey, row 0 at the bottom as
        in FITS. Fully transparent pixels are masked.

    Raises
    ------
    Unreadable
        Where the picture is damaged or cut short.
    Unusable
        Where it is too small or too large for a stamp.
    """
    from PIL import Image as Picture
    from PIL import UnidentifiedImageError

    try:
        with Picture.open(io.BytesIO(source.content)) as picture:
            if not SMALLEST <= min(picture.size) <= max(picture.size) <= LARGEST:
                raise Unusable(
                    f"{source.file.source} is {picture.width} x {picture.height} pixels; a stamp has {SMALLEST} to "
                    f"{LARGEST} a side"
                )
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            values = np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Picture.DecompressionBombError) as error:
        if isinstance(error, Unusable):
            raise
        raise Unreadable(f"picture {source.file.source} can't be decoded: {error}") from error
    flux = np.ascontiguousarray(values[::-1, :, :3].transpose(2, 0, 1), dtype=np.float32)
    hidden = values[::-1, :, 3] == 0 if has_alpha else np.zeros(flux.shape[1:], bool)
    if np.ptp(flux, axis=0).max() == 0:
        flux = flux[:1].copy()
    if hidden.all() or np.ptp(flux) == 0:
        raise Unusable(f"{source.file.source} shows nothing: all pixels are {float(flux.flat[0]):g} or transparent")
    name = _stem(source)
    ra, dec = position_of_name(name)
    flags = bits("DISPLAY_IMAGE", "NO_TIME", "UNCALIBRATED") | (bits("NO_POSITION") if ra is None else 0)
    return Cutout(
        source=source.file.source,
        object_id=name,
        ra=ra,
        dec=dec,
        flags=flags,
        flux=flux,
        mask=np.repeat(hidden[None], len(flux), axis=0),
        bands=("R", "G", "B") if len(flux) == 3 else ("",),
        unit="display",
    )


FORMATS = (
    Format(
        name="display_stamp",
        record=Cutout,
        description="JPEG or PNG stamp of one object; its name gives the identifier, and the position where it has one",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
)
