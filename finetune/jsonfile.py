"""JSON on disk: sorted, strict, numpy taken as it comes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Turn numpy scalars, arrays, tuples and mappings into what JSON knows.

    Parameters
    ----------
    value : object
        Nested as you like.

    Returns
    -------
    object
        The same in dict, list, str, int, float, bool and None.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return value


def json_bytes(content: Any) -> bytes:
    """JSON in the order that it was given.

    Parameters
    ----------
    content : object
        As for ``write_json``.

    Returns
    -------
    bytes
        UTF-8, with a line break at the end.
    """
    return (json.dumps(plain(content), indent=1) + "\n").encode()


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file.

    Parameters
    ----------
    path : Path
        File to write.
    content : object
        Nested mappings, sequences, scalars, numpy included.

    Raises
    ------
    ValueError
        Where a value has no JSON form, NaN and infinity included.
    """
    try:
        text = json.dumps(plain(content), indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: a value has no JSON form: {error}") from error
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : Path
        File to read.

    Returns
    -------
    object
        Its content.

    Raises
    ------
    ValueError
        Where it is no JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))
