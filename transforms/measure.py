"""Which classical steps run on which record, and the columns that they fill. Record in, measured records out.

A science module offers ``measure_<record>(record, options)``, which yields or returns records with ``measured`` and
``flags`` filled, and ``COLUMNS``, what it fills. This module only knows their names, so that a worker imports what
its files need.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from transforms.columns import Column, unique
from transforms.records import Cutout, Identity, Image, LightCurve, Spectrum

#: Record class: module, function, and the record class that comes out.
STEPS: dict[type, tuple[str, str, type]] = {
    Image: ("transforms.detect", "measure_image", Cutout),
    Cutout: ("transforms.crop", "measure_cutout", Cutout),
    Spectrum: ("transforms.velocity", "measure_spectrum", Spectrum),
    LightCurve: ("transforms.period", "measure_light_curve", LightCurve),
}


def measure(record: Identity, options: Mapping[str, Any]) -> Iterator[Identity]:
    """Run the classical steps on one record.

    Parameters
    ----------
    record : Identity
        As a reader gave it.
    options : mapping
        ``RunConfig.measure_options``: thresholds and the target list.

    Yields
    ------
    Identity
        One record, or for an Image a Cutout for each source.
    """
    module, name, _ = STEPS[type(record)]
    result = getattr(importlib.import_module(module), name)(record, options)
    if isinstance(result, Identity):
        yield result
    else:
        yield from result


@cache
def columns(record: type) -> tuple[Column, ...]:
    """Columns that the classical steps fill on rows of a record class.

    Parameters
    ----------
    record : type
        Cutout, Spectrum or LightCurve.

    Returns
    -------
    tuple of Column
        In catalog order, each name once.
    """
    found: dict[str, Column] = {}
    for module, _, produced in STEPS.values():
        if produced is record:
            for column in importlib.import_module(module).COLUMNS:
                if found.setdefault(column.name, column) != column:
                    raise ValueError(f"column {column.name!r} is declared in two ways")
    return unique(found.values())
