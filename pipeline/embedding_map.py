"""The map of a table: its objects in the embedding of the model that made them, as a page with a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.embedded import EMBEDDING, model_of_most, read_rows, vectors
from pipeline.hats import CatalogError
from pipeline.similar import PLACE, columns_of_best, find_model, get_task
from transforms.flags import bits


def write_map(
    catalog: str,
    table: str,
    output: str | Path,
    *,
    night: str | None = None,
    bundle: str = "",
    registry: str = "",
    column: str = "",
) -> dict[str, Any]:
    """Draw the objects of a table on two axes that are the same for all nights of a model.

    Parameters
    ----------
    catalog, table : str
        Where they are.
    output : str or Path
        Folder for ``index.html``, ``map.png`` and ``report.json``.
    night : str, optional
        Only this night.
    bundle, registry : str
        Where the model that made the rows may be found.
    column : str
        That gives the colours; the best class, or the first best number, where empty.

    Returns
    -------
    dict
        ``table``, ``model``, ``objects``, ``novel``, ``variance`` (share that is shown), ``taught`` and ``values``
        (objects by class), ``page`` and ``picture``.

    Raises
    ------
    CatalogError
        Where there is no such table or column, no row with an embedding, or the model is not at hand.
    ReportError
        Where matplotlib is not installed.
    """
    from finetune.embedding_map import NO_ANSWER, flatten, held
    from finetune.evaluation_page import check_plots

    check_plots()
    task = get_task(table)
    column = column or columns_of_best(task)[0]
    if column == EMBEDDING:
        raise CatalogError([f"column {column!r}: a list gives no colour; name a class or a number"])
    digest = model_of_most(read_rows(catalog, table, ("model_digest",), night=night), table)
    model = find_model(table, digest, bundle, registry)
    space = model.space() if model is not None else None
    if space is None:
        raise CatalogError(
            [f"the rows of {table!r} were made by model {digest}, which is not at hand: name --registry"]
        )
    places, values, novel, taught = [], [], [], []
    names = tuple(dict.fromkeys((column, *PLACE, "model_digest", EMBEDDING)))  # a column twice would have no name
    for part in read_rows(catalog, table, names, night=night):
        part = part.filter(pc.equal(part["model_digest"], digest))
        if part.num_rows:
            places.append(flatten(space, vectors(part)))
            values += part[column].to_pylist()
            novel += (pc.bit_wise_and(part["flags"], bits("NOVEL")).to_numpy() > 0).tolist()
            taught += part["taught_class"].to_pylist()
    report: dict[str, Any] = {
        "table": table, "model": digest, "night": night, "column": column, "objects": len(values),
        "novel": int(np.sum(novel)), "variance": held(space),
        "taught": dict(sorted(Counter(one for one in taught if one is not None).items())),
    }  # fmt: skip
    if all(isinstance(one, str) or one is None for one in values):
        report["values"] = dict(sorted(Counter(NO_ANSWER if one is None else one for one in values).items()))
    return _write(Path(output), report, space, np.concatenate(places), values, novel, taught, task)


def _write(
    folder: Path, report: dict[str, Any], space: Any, points: np.ndarray, values: Sequence[Any], novel: Sequence[bool],
    taught: Sequence[Any], task: Any,
) -> dict[str, Any]:  # fmt: skip
    from finetune.embedding_map import NO_ANSWER, draw_map
    from finetune.evaluation_plots import image
    from finetune.jsonfile import write_json
    from finetune.page import page, table

    folder.mkdir(parents=True, exist_ok=True)
    units = {one.name: one.unit for one in task.all_columns()}
    column, unit = report["column"], units.get(report["column"], "")
    figure = draw_map(space, points, values, novel, taught, f"{column} / {unit}" if unit else column)
    figure.savefig(folder / "map.png", metadata={"Software": None})
    strange = Counter(NO_ANSWER if one is None else one for one, far in zip(values, novel, strict=True) if far)
    rows = [(name, count, strange[name]) for name, count in report.get("values", {}).items()]
    lead = (
        f"{report['objects']} objects of {report['table']}{' of ' + report['night'] if report['night'] else ''}, model "
        f"{report['model']}: {report['novel']} are novel. The axes are the first two principal ones of the training "
        f"objects and hold {report['variance']:.0%} of their variance; they are the same for all nights of this model."
    )
    sections = {"Map": image(figure, f"{report['table']}: objects by {column}")}
    if rows:
        sections["Classes"] = table((column, "objects", "novel"), rows)
    (folder / "index.html").write_text(page(f"{report['table']}: map", lead, sections), encoding="utf-8")
    found = {**report, "page": str(folder / "index.html"), "picture": str(folder / "map.png")}
    write_json(folder / "report.json", report)
    return found
