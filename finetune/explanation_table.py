"""Explanations as a side table of the catalog: one row for each datum that an answer was attributed to."""

from __future__ import annotations

from typing import Any

import numpy as np

from finetune.explain import Explanations
from transforms.columns import FLOAT64, INT64, STRING, Column

COLUMNS = (
    Column("object_id", STRING, "", "meta.id;meta.main", "Identifier of the object", nullable=False),
    Column("source", STRING, "", "meta.id;meta.file", "Input file that the row was made from", nullable=False),
    Column("hdu", STRING, "", "meta.id.part", "FITS extension within the file", nullable=False),
    Column("row", INT64, "", "meta.record", "Row, aperture or detection number in the extension", nullable=False),
    Column("task", STRING, "", "meta.id", "Task whose answer is explained", nullable=False),
    Column("model_digest", STRING, "", "meta.version", "SHA-256 of the model bundle (first 16 digits)", nullable=False),
    Column("method", STRING, "", "meta.id", "integrated_gradients, or rollout (shares without sign)", nullable=False),
    Column("target", STRING, "", "meta.id", "Column or class whose answer is explained", nullable=False),
    Column("target_unit", STRING, "", "meta.unit", "Unit of the answer and the attribution; empty for log-odds"),
    Column("target_value", FLOAT64, "", "stat.value", "The network's answer, before calibration, in target_unit"),
    Column("nothing_value", FLOAT64, "", "stat.value", "Its answer where nothing is seen, in target_unit"),
    Column("array", STRING, "", "meta.id", "Input array of the network", nullable=False),
    Column("part", STRING, "", "meta.id", "Spectral line, filter, view or number that it belongs to; null for none"),
    Column("axis", STRING, "", "meta.id", "wavelength, time, pixel or number", nullable=False),
    Column("position", FLOAT64, "", "pos", "Where it lies on the axis, in position_unit; null for a number"),
    Column("position_y", FLOAT64, "", "pos", "The same on the second axis of an image, else null"),
    Column("position_unit", STRING, "", "meta.unit", "Angstrom (vacuum, at rest), d (from the middle) or pix"),
    Column("value", FLOAT64, "", "stat.value", "What was observed there, as the network was given it"),
    Column(
        "attribution", FLOAT64, "", "stat.value",
        "Share of the datum in the answer less that where nothing is seen, in target_unit; a share of attention for "
        "rollout",
    ),
)  # fmt: skip


def table_arrays(found: Explanations) -> dict[str, Any]:
    """The side table, column by column.

    Parameters
    ----------
    found : Explanations
        From ``run_explain``.

    Returns
    -------
    dict of str to ndarray
        By name, in the order of ``COLUMNS``; NaN and empty text (in ``part``) stand for nulls.
    """
    how = found.task.explain
    axes = {array.name: array for array in how.arrays} if how else {}
    blocks: list[dict[str, Any]] = []
    for one in found.objects:
        source, hdu, row = one.place
        for target in one.targets:
            for name, where in one.places.items():
                blocks.append(
                    {
                        "object_id": one.object_id, "source": source, "hdu": hdu, "row": row,
                        "task": found.task.name, "model_digest": found.digest, "method": found.method,
                        "target": target.name, "target_unit": target.unit, "target_value": target.value,
                        "nothing_value": target.nothing, "array": name, "part": np.array(where.part, dtype=object),
                        "axis": axes[name].axis, "position": where.position, "position_y": where.position_y,
                        "position_unit": axes[name].unit, "value": where.value,
                        "attribution": target.attribution[name],
                    }
                )  # fmt: skip
    sizes = [len(block["attribution"]) for block in blocks]
    return {column.name: _column(column.name, blocks, sizes) for column in COLUMNS}


def _column(name: str, blocks: list[dict[str, Any]], sizes: list[int]) -> np.ndarray:
    values = [block[name] for block in blocks]
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return np.repeat(np.array(values, dtype=object if isinstance(values[0], str) else None), sizes)
