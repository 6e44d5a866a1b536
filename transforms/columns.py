"""Columns of the catalog: name, type, unit, UCD and a sentence, stated once and used everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

FLOAT32, FLOAT64, INT32, INT64, BOOL, STRING = "float32", "float64", "int32", "int64", "bool", "string"
FLOAT32_LIST = "list<float32>"
TYPES = (FLOAT32, FLOAT64, INT32, INT64, BOOL, STRING, FLOAT32_LIST)
_NAME = re.compile(r"[a-z_][a-z0-9_]*\Z")
RESERVED = frozenset({"norder", "dir", "npix"})  # keys of the HATS directory tree


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one table.

    Parameters
    ----------
    name : str
        Snake case.
    type : str
        One of ``TYPES``.
    unit : str
        As astropy writes it (``"deg"``, ``"km / s"``, ``"dex(cm / s2)"``); empty for none.
    ucd : str
        IVOA unified content descriptor (UCD1+).
    description : str
        One sentence.
    nullable : bool
        False only for identity and flags.

    Raises
    ------
    ValueError
        For a name, type or description that no catalog reader would take.
    """

    name: str
    type: str
    unit: str
    ucd: str
    description: str
    nullable: bool = True

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or self.name in RESERVED:
            raise ValueError(f"column name {self.name!r} is not snake case or is reserved by HATS")
        if self.type not in TYPES:
            raise ValueError(f"column {self.name!r} has type {self.type!r}; allowed are {', '.join(TYPES)}")
        if not self.description.strip():
            raise ValueError(f"column {self.name!r} has no description")


def unique(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Return the columns as a tuple after checking that no name stands twice.

    Parameters
    ----------
    columns : iterable of Column
        In catalog order.

    Returns
    -------
    tuple of Column
        The same columns.

    Raises
    ------
    ValueError
        Where a name stands twice.
    """
    columns = tuple(columns)
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            raise ValueError(f"column {column.name!r} is declared twice")
        seen.add(column.name)
    return columns


IDENTITY = (
    Column("_healpix_29", INT64, "", "pos.healpix", "HEALPix nested index of order 29 of the ICRS position"),
    Column("object_id", STRING, "", "meta.id;meta.main", "Identifier of the object", nullable=False),
    Column("ra", FLOAT64, "deg", "pos.eq.ra;meta.main", "Right ascension (ICRS)"),
    Column("dec", FLOAT64, "deg", "pos.eq.dec;meta.main", "Declination (ICRS)"),
    Column("night", STRING, "", "time.epoch", "Night of the survey that the file was handed in with", nullable=False),
    Column("mjd", FLOAT64, "d", "time.epoch", "Modified Julian date of the middle of the observation"),
    Column("time_scale", STRING, "", "time.scale", "Time scale of mjd and of all times in the row"),
    Column("flags", INT64, "", "meta.code.qual", "Bits of the flag registry", nullable=False),
)
PROVENANCE = (
    Column("source", STRING, "", "meta.id;meta.file", "Input file that the row was made from", nullable=False),
    Column("hdu", STRING, "", "meta.id.part", "FITS extension within the file", nullable=False),
    Column("row", INT64, "", "meta.record", "Row, aperture or detection number in the extension", nullable=False),
    Column("task", STRING, "", "meta.id", "Task that made the row", nullable=False),
    Column("model_digest", STRING, "", "meta.version", "SHA-256 of the model bundle (first 16 digits)", nullable=False),
    Column("package_version", STRING, "", "meta.version", "Version of nightcat", nullable=False),
)
REJECTS = (
    Column("source", STRING, "", "meta.id;meta.file", "Input file", nullable=False),
    Column("hdu", STRING, "", "meta.id.part", "FITS extension, empty where the whole file failed", nullable=False),
    Column("row", INT64, "", "meta.record", "Row in the extension, -1 where all of it failed", nullable=False),
    Column("object_id", STRING, "", "meta.id", "Identifier where it was known"),
    Column("night", STRING, "", "time.epoch", "Night", nullable=False),
    Column("stage", STRING, "", "meta.code.class", "Stage that refused the input", nullable=False),
    Column("task", STRING, "", "meta.id", "Task that refused it, empty where it came to none"),
    Column("error", STRING, "", "meta.code.error", "Class of the error", nullable=False),
    Column("reason", STRING, "", "meta.note", "Sentence that names the thing and its value", nullable=False),
    Column("digest", STRING, "", "meta.checksum", "SHA-256 of the file, empty where it could not be read"),
    Column("url", STRING, "", "meta.ref.url", "Full URL of the file, from which a replay reads it", nullable=False),
    Column("package_version", STRING, "", "meta.version", "Version of nightcat", nullable=False),
)
