"""What the embeddings of a catalog are for: similar objects, unknown ones, the queue for labels, taught classes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.embedded import (
    EMBEDDING,
    IDENTITY,
    NoEmbedding,
    classes_there,
    one_model,
    read_named,
    read_rows,
    vectors,
)
from pipeline.hats import CatalogError
from transforms.flags import bits

if TYPE_CHECKING:
    from finetune.bundle import Bundle
    from finetune.embedding_space import EmbeddingSpace

PLACE = ("novelty", "taught_class", "flags")


def find_model(task: str, digest: str, bundle: str = "", registry: str = "") -> Bundle | None:
    """Find the model that made some rows.

    Parameters
    ----------
    task : str
        Its task.
    digest : str
        Its digest, as rows name it.
    bundle : str
        Folder that the user named; empty for none.
    registry : str
        Folder or URL of models; empty for none.

    Returns
    -------
    Bundle or None
        Of the folder, else the one that ships, else of the registry; None where none of them has this digest.

    Raises
    ------
    CatalogError
        Where the folder that the user named holds another model.
    BundleError, RegistryError
        Where a model cannot be read.
    """
    from finetune.bundle import BundleError, bundled, load_bundle
    from finetune.registry import Registry, RegistryError

    if bundle:
        found = load_bundle(bundle)
        if found.digest[:16] != digest:
            raise CatalogError([f"--bundle {bundle} is {found.digest[:16]}, but the rows were made by {digest}"])
        return found
    try:
        found = load_bundle(bundled(task))
        if found.digest[:16] == digest:
            return found
    except BundleError:  # none ships
        pass
    try:
        return Registry(registry).bundle(task, digest) if registry else None
    except RegistryError:  # it does not hold this one
        return None


def columns_of_best(task: Any) -> tuple[str, ...]:
    """The best answer in few columns, for a person.

    Parameters
    ----------
    task : Task
        The task.

    Returns
    -------
    tuple of str
        Class and probability, or the numbers.
    """
    names = [column.name for column in task.best_columns]
    if task.classes:
        return tuple(names[:2])
    return tuple(name for name in names if not name.endswith(("_err", "_method")))


def similar(
    catalog: str,
    table: str,
    queries: np.ndarray,
    digest: str,
    bundle: Bundle | None,
    count: int,
    *,
    night: str | None = None,
    leave_out: Iterable[tuple[str, str, int]] = (),
) -> list[list[dict[str, Any]]]:
    """Objects of a table that are nearest to others in the embedding.

    Parameters
    ----------
    catalog, table : str
        Where to look.
    queries : ndarray, shape (q, width)
        Embeddings by the model ``digest``.
    digest : str
        Only rows of this model are compared.
    bundle : Bundle or None
        That model, for its whitened space.
    count : int
        How many for each query.
    night : str, optional
        Only this night.
    leave_out : iterable of tuple of str, str and int
        Source, hdu and row of objects that are no answer: those that were asked for.

    Returns
    -------
    list of list of dict
        For each query the nearest rows, with ``distance``; a part of the table is in memory at a time.

    Raises
    ------
    CatalogError
        Where there is no such table.
    """
    from finetune.neighbours import likeness, nearest

    space, skip = bundle.space() if bundle else None, set(leave_out)
    names = (*IDENTITY, *columns_of_best(get_task(table)), *PLACE, EMBEDDING)
    points = likeness(queries, space)
    best: list[list[tuple[float, int, dict[str, Any]]]] = [[] for _ in queries]
    number = 0
    for part in read_rows(catalog, table, names, night=night):
        part = part.filter(pc.equal(part["model_digest"], digest))
        if not part.num_rows:
            continue
        index, distance = nearest(points, likeness(vectors(part), space), count + len(skip))
        plain = part.drop_columns([EMBEDDING])
        for q, (which, far) in enumerate(zip(index.tolist(), distance.tolist(), strict=True)):
            rows = plain.take(pa.array(which)).to_pylist()
            fresh = [(d, number + i, r) for d, i, r in zip(far, which, rows, strict=True) if _place(r) not in skip]
            best[q] = heapq.nsmallest(count, [*best[q], *fresh], key=lambda one: one[:2])
        number += part.num_rows
    return [[{**row, "distance": far} for far, _, row in mine] for mine in best]


def _place(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["source"], row["hdu"], row["row"]


def embed_files(bundle: Bundle, inputs: Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    """Embeddings of the objects in some files.

    Parameters
    ----------
    bundle : Bundle
        The model.
    inputs : sequence of str or FileRef
        Files.

    Returns
    -------
    vectors, names : ndarray of float32, shape (n, width), list of str
        Of the objects that the model says something about, and what they are called.

    Raises
    ------
    CatalogError
        Where there is none.
    """
    from finetune.dataset import read_records
    from finetune.inputs import list_files
    from finetune.predict import load_predictor
    from finetune.task import Example
    from finetune.train import predict_rows, prepare_all
    from transforms.records import Reject

    predictor = load_predictor(bundle.path, embeddings=True)
    read = [one for _, found in read_records(list_files(inputs), predictor.record, {}, {}) for one in found]
    objects = [Example(record=one, labels={}, group="") for one in read if not isinstance(one, Reject)]
    kept, prepared, unusable = prepare_all(predictor.definition, objects)
    rows = predict_rows(predictor, prepared, predictor.batch_size)
    pairs = [(one.record, row[EMBEDDING]) for one, row in zip(kept, rows, strict=True)]
    known = [(record, vector) for record, vector in pairs if vector is not None]
    if not known:
        refused = [f"{one.source}: {one.reason}" for one in (*read, *unusable) if isinstance(one, Reject)]
        mute = [f"{r.source}: the model says nothing about {r.object_id!r}" for r, vector in pairs if vector is None]
        raise CatalogError([f"no object for {predictor.task} in {len(inputs)} files", *[*refused, *mute][:3]])
    return np.stack([vector for _, vector in known]), [f"{r.source} {r.object_id}" for r, _ in known]


def named(catalog: str, table: str, ids: Sequence[str], digest: str = "") -> tuple[list[dict[str, Any]], str]:
    """Objects with embeddings, by name.

    Parameters
    ----------
    catalog, table : str
        Where they are; of most row groups only the names are read, and nothing is kept of them.
    ids : sequence of str
        Their ``object_id``.
    digest : str
        Model that made the rows; where empty the one that made rows of most of these objects, the latest of several.

    Returns
    -------
    rows, digest : list of dict, str
        In the order of ``ids``, with ``embedding``; and the model.

    Raises
    ------
    CatalogError
        Naming those that have no embedding.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    some: list[str] = []
    for part in read_named(catalog, table, ids, some):
        for row in part.to_pylist():
            mine = found.pop(row["model_digest"], {})
            found[row["model_digest"]] = mine  # the latest stands last
            mine.setdefault(row["object_id"], row)
    if not some:
        raise NoEmbedding([f"no row of {table!r} has an embedding; nightcat run --embeddings writes them"])
    made = digest or max(reversed(found), key=lambda name: len(found[name]), default="")
    mine = found.get(made, {})
    missing = [one for one in ids if one not in mine]
    if missing:
        few = ", ".join(repr(one) for one in missing[:3]) + (" ..." if len(missing) > 3 else "")
        there = ", ".join(map(repr, some))
        who = f" of model {made}" if made else ""
        raise CatalogError(
            [
                f"{len(missing)} of {len(ids)} objects have no row in {table!r} with an embedding{who}: {few}; "
                f"it has, for example, {there}"
            ]
        )
    return [mine[one] for one in ids], made


def model_of_files(task: str, bundle: str = "", registry: str = "") -> Bundle:
    """The model that files are embedded by: as ``nightcat run`` would take it.

    Parameters
    ----------
    task : str
        The task.
    bundle : str
        Folder that the user named; empty for none.
    registry : str
        Folder or URL of models; empty for none.

    Returns
    -------
    Bundle
        Of the folder, else in production in the registry, else the one that ships.

    Raises
    ------
    BundleError, RegistryError
        Where it cannot be read.
    """
    from finetune.bundle import load_bundle
    from finetune.commands import find_bundle
    from finetune.registry import Registry

    if not bundle and registry and Registry(registry).state(task).production:
        return Registry(registry).bundle(task)
    return load_bundle(find_bundle(bundle or task))


def _rows_and_space(
    catalog: str, table: str, names: Sequence[str], night: str | None, bundle: str, registry: str
) -> tuple[pa.Table, EmbeddingSpace | None]:
    """All rows with an embedding by the model that made most of them, and its space where it is at hand."""
    parts, digest = one_model(read_rows(catalog, table, (*names, EMBEDDING), night=night), table)
    model = find_model(table, digest, bundle, registry)
    return pa.concat_tables(parts), model.space() if model else None


def unknown(
    catalog: str, table: str, smallest: int, *, night: str | None = None, bundle: str = "", registry: str = ""
) -> list[dict[str, Any]]:
    """Objects that lie far from all training objects, in groups of those that are alike.

    Parameters
    ----------
    catalog, table : str
        Where to look.
    smallest : int
        Fewest objects of a group.
    night : str, optional
        Only this night.
    bundle, registry : str
        Where the model that made the rows may be found.

    Returns
    -------
    list of dict
        Rows with the flag NOVEL and without a taught class, with ``group`` (-1 for none), sorted by group, the largest
        first, and within it from its middle outwards.

    Raises
    ------
    CatalogError
        Where there is no such table, or no embedding.
    """
    from finetune.neighbours import coordinates, groups

    names = (*IDENTITY, *columns_of_best(get_task(table)), *PLACE)
    rows, space = _rows_and_space(catalog, table, names, night, bundle, registry)
    novel = pc.bit_wise_and(rows["flags"], bits("NOVEL")).to_numpy() > 0
    rows = rows.filter(pa.array(novel & pc.is_null(rows["taught_class"]).to_numpy()))
    if not rows.num_rows:
        return []
    points = coordinates(vectors(rows), space)
    group = groups(points, smallest)
    middle = {g: np.median(points[group == g], axis=0) for g in np.unique(group)}
    off = np.array([np.sqrt(((p - middle[g]) ** 2).sum()) for p, g in zip(points, group, strict=True)])
    order = sorted(range(len(group)), key=lambda i: (group[i] < 0, group[i], off[i]))
    plain = rows.drop_columns([EMBEDDING]).to_pylist()
    return [{**plain[i], "group": int(group[i]), "distance": float(off[i])} for i in order]


def label_queue(
    catalog: str, table: str, count: int, *, night: str | None = None, bundle: str = "", registry: str = ""
) -> list[dict[str, Any]]:
    """Objects that are most worth a label.

    Parameters
    ----------
    catalog, table : str
        Where to look.
    count : int
        How many.
    night : str, optional
        Only this night.
    bundle, registry : str
        Where the model that made the rows may be found.

    Returns
    -------
    list of dict
        The worthiest first, with ``reasons``. Where rows have embeddings, only those are ranked, and none is like
        another; else by uncertainty alone.

    Raises
    ------
    CatalogError
        Where there is no such table.
    """
    from finetune.label_queue import queue, uncertainty_columns
    from finetune.neighbours import coordinates

    task = get_task(table)
    classes = classes_there(catalog, table)
    if task.with_classes is not None and classes != task.classes:  # else an object between a new class and another
        task = task.with_classes(classes)  # would be taken for one that the model is sure of
    best = tuple(dict.fromkeys((*columns_of_best(task), *uncertainty_columns(task))))
    names = (*IDENTITY, *best, *PLACE)
    points = None
    try:
        rows, space = _rows_and_space(catalog, table, names, night, bundle, registry)
        points = coordinates(vectors(rows), space)
        plain = rows.drop_columns([EMBEDDING]).to_pylist()
    except NoEmbedding:
        plain = [r for part in read_rows(catalog, table, names, night=night, embedded=False) for r in part.to_pylist()]
    return [{**plain[i], "reasons": "; ".join(why)} for i, why in queue(task, plain, points, count)]


def get_task(table: str) -> Any:
    """The task of a table.

    Parameters
    ----------
    table : str
        Its name.

    Returns
    -------
    Task
        The task.

    Raises
    ------
    CatalogError
        Where there is none.
    """
    from finetune import tasks

    try:
        return tasks.get(table)
    except KeyError as error:
        raise CatalogError([str(error.args[0])]) from error
