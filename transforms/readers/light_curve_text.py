"""Text tables of light curves with named columns: the line that names them, and their cells."""

from __future__ import annotations

import io
import re

import pyarrow as pa
import pyarrow.csv

from transforms.attempt import Unreadable
from transforms.readers.format import Source
from transforms.readers.light_curve_columns import unit_in_name
from transforms.readers.light_curve_parsers import Table
from transforms.readers.text_spectra import header_line

_NULLS = ["", "nan", "NaN", "NAN", "null", "NULL", "None", "-", "--", "N/A", "na", "inf", "-inf"]
_DELIMITERS = {"comma": ",", "tab": "\t", "space": " ", "semicolon": ";"}


def header(text: str) -> tuple[list[str], str, int]:
    """Find the line that names the columns.

    Parameters
    ----------
    text : str
        A text table.

    Returns
    -------
    names : list of str
        Column names; empty where there are none.
    delimiter : str
        ``","``, ``";"``, tab, or a space for any white space.
    skip : int
        Number of lines before the data.
    """
    return _aavso(text) if text[:6].upper() == "#TYPE=" else header_line(text)


def _aavso(text: str) -> tuple[list[str], str, int]:
    """AAVSO extended format: ``#KEY=value`` lines, the names in a comment, ``#DATE`` tells what the dates are."""
    keys, names, skip = {}, "", 0
    for line in text.split("\n"):
        if not line.startswith("#"):
            break
        skip += 1
        key, equals, value = line[1:].partition("=")
        if equals:
            keys[key.strip().upper()] = value.strip()
        elif key.strip():
            names = key
    word = keys.get("DELIM", ",")
    delimiter = _DELIMITERS.get(word.lower(), word[:1] or ",")
    split = [name.strip() for name in (names.split() if delimiter == " " else names.split(delimiter))]
    return [keys.get("DATE", name) if name.upper() == "DATE" else name for name in split], delimiter, skip


def read_text(source: Source) -> Table:
    """Read a text table.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    Table
        All of it; units from brackets in the names.

    Raises
    ------
    Unreadable
        Where a line has another number of cells than the header.
    """
    text = source.text
    names, delimiter, skip = header(text)
    lines = [line for line in text.split("\n")[skip:] if line.strip() and not line.lstrip().startswith("#")]
    if delimiter == " " or (delimiter == "," and lines and not any("," in line for line in lines)):
        lines, delimiter = [",".join(line.split()) for line in lines], ","
    if lines and all(line.rstrip().endswith(delimiter) and line.count(delimiter) == len(names) for line in lines):
        lines = [line.rstrip()[:-1] for line in lines]
    if not lines:
        return Table(pa.table({name: pa.array([], pa.float64()) for name in names}))
    body = "\n".join([delimiter.join(f'"{name}"' for name in names), *lines]).encode()
    try:
        arrow = _arrow(body, delimiter, pyarrow.csv.ReadOptions())
    except pa.ArrowInvalid:  # types come from the first block: an upper limit far below it is text among numbers
        try:
            arrow = _arrow(body, delimiter, pyarrow.csv.ReadOptions(block_size=len(body) + 1))
        except pa.ArrowInvalid as error:
            raise Unreadable(f"not a table of {len(names)} columns ({', '.join(names)}): {error}") from error
    return Table(arrow, {name: unit_in_name(name) for name in names}, _requested(text))


def _arrow(body: bytes, delimiter: str, read: pyarrow.csv.ReadOptions) -> pa.Table:
    return pyarrow.csv.read_csv(
        io.BytesIO(body),
        read_options=read,
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(null_values=_NULLS, strings_can_be_null=True),
    )


def _requested(text: str) -> dict[str, float]:
    """Position in the comments of ZTF's forced-photometry service."""
    pattern = r"^# *Requested input {} *= *([-+\d.]+)"
    ra, dec = (re.search(pattern.format(word), text[:4000], re.MULTILINE) for word in (r"R\.A\.", r"Dec\."))
    return {"ra": float(ra[1]), "dec": float(dec[1])} if ra and dec else {}
