"""Commands on the embeddings of a catalog: similar, unknown, label-queue and teach."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipeline.cli import EXIT_OK, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table
from pipeline.cli.guard import guarded
from pipeline.cli.models import called, inputs, say
from pipeline.cli.registry import registry

_WHERE = ("object_id", "ra", "dec", "source", "hdu", "row")


def similar(options: Namespace) -> int:
    """Find objects that are alike.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    if bool(options.ids) == bool(options.input):
        return fail("similar needs either --ids of objects in the catalog, or --input files with others", EXIT_USAGE)
    return _on_catalog(options, partial(_similar, options))


def _similar(options: Namespace) -> int:
    import numpy as np

    from pipeline.similar import embed_files, find_model, model_of_files, named, similar

    if options.ids:
        rows, digest = named(options.catalog, options.table, options.ids)
        model = find_model(options.table, digest, options.bundle or "", registry(options))
        queries, names = np.stack([row["embedding"] for row in rows]), list(options.ids)
        skip = [(row["source"], row["hdu"], row["row"]) for row in rows]
    else:
        model = model_of_files(options.table, options.bundle or "", registry(options))
        queries, names = embed_files(model, inputs(options))
        digest, skip = model.digest[:16], []
    found = similar(
        options.catalog, options.table, queries, digest, model, options.n, night=options.night, leave_out=skip
    )
    if not any(found):
        return fail(f"no row of {options.table!r} has an embedding of model {digest}", EXIT_USAGE)
    for name, mine in zip(names, found, strict=True):
        _tell(options, f"{options.table}: most similar to {name}", mine, ("distance",))
    return EXIT_OK


def draw_map(options: Namespace) -> int:
    """Draw the objects of a table in two dimensions.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    return _on_catalog(options, partial(_draw_map, options))


def _draw_map(options: Namespace) -> int:
    from pipeline.embedding_map import write_map

    found = write_map(
        options.catalog, options.table, options.output, night=options.night, bundle=options.bundle or "",
        registry=registry(options), column=options.column,
    )  # fmt: skip
    taught = "".join(f", {count} in the taught class {name}" for name, count in found["taught"].items())
    show(
        options, found,
        f"{found['objects']} objects, {found['novel']} of them novel{taught}; two axes hold {found['variance']:.0%} "
        f"of the variance\nwrote {found['page']} and {found['picture']}",
    )  # fmt: skip
    return EXIT_OK


def unknown(options: Namespace) -> int:
    """List objects that are far from all training objects, grouped.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    return _on_catalog(options, partial(_unknown, options))


def _unknown(options: Namespace) -> int:
    from pipeline.similar import unknown

    rows = unknown(
        options.catalog, options.table, options.smallest, night=options.night, bundle=options.bundle or "",
        registry=registry(options),
    )  # fmt: skip
    _write(options, rows)
    count = len({row["group"] for row in rows if row["group"] >= 0})
    title = f"{options.table}: {len(rows)} objects far from all training objects, {count} group{'s' * (count != 1)}"
    if options.json:
        _tell(options, title, rows, ("group", "distance"))
        return EXIT_OK
    shown = [row for _, mine in groupby(rows, key=itemgetter("group")) for row in islice(mine, options.n)]
    _tell(options, f"{title}; the {options.n} nearest to the middle of each", shown, ("group", "distance"))
    return EXIT_OK


def label_queue(options: Namespace) -> int:
    """List the objects that are most worth a label.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    return _on_catalog(options, partial(_label_queue, options))


def _label_queue(options: Namespace) -> int:
    from pipeline.similar import get_task, label_queue

    rows = label_queue(
        options.catalog, options.table, options.n, night=options.night, bundle=options.bundle or "",
        registry=registry(options),
    )  # fmt: skip
    _write(options, rows, empty=get_task(options.table).label_columns)
    _tell(options, f"{options.table}: objects that are most worth a label", rows, ("reasons",))
    return EXIT_OK


def teach(options: Namespace) -> int:
    """Teach a model a class by examples.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    if not options.output and not registry(options):
        return fail("teach needs --output, or a --registry whose production model learns the class", EXIT_USAGE)
    return _on_catalog(options, partial(_teach, options))


def _teach(options: Namespace) -> int:
    import numpy as np

    from finetune.registry_commands import teach_production
    from finetune.teach import run_teach
    from pipeline.similar import find_model, named

    where = registry(options)
    rows, digest = named(options.catalog, options.task, options.ids)
    model = find_model(options.task, digest, options.bundle or "", where)
    if model is None:
        what = "--bundle or --registry names the place of it"
        return fail(f"the rows of these objects were made by model {digest}, which is not at hand; {what}", EXIT_USAGE)
    vectors = np.stack([row["embedding"] for row in rows])
    keywords: dict[str, Any] = {"command": called(), "say": say(options)}
    if options.output:
        found = run_teach(model, options.cls, vectors, options.ids, options.output, **keywords)
        after = f"use it: nightcat run --bundle {options.task}={options.output} ..."
    else:
        found = teach_production(where, model, options.cls, vectors, options.ids, **keywords)
        after = f"in production in {where} from the next run on"
    text = (
        f"{options.task} knows {found['class']!r} by {len(found['examples'])} examples; "
        f"{found['training_objects_inside']:.1%} of the training objects would be taken for it\n{after}"
    )
    show(options, found, text)
    return EXIT_OK


def _on_catalog(options: Namespace, work: Callable[[], int]) -> int:
    from pipeline.quiet import quiet_libraries

    with quiet_libraries(None):
        return guarded(options.catalog, getattr(options, "night", None), partial(_of_models, work))


def _of_models(work: Callable[[], int]) -> int:
    """What is wrong with a model or an option, as a sentence; what is wrong with the catalog, ``guarded`` says."""
    from finetune.bundle import BundleError
    from finetune.registry import RegistryError
    from finetune.training_options import OptionsError

    try:
        return work()
    except (BundleError, RegistryError, OptionsError) as error:
        return fail(str(error), EXIT_USAGE)


def _tell(options: Namespace, title: str, rows: Sequence[Mapping[str, Any]], more: Sequence[str]) -> None:
    from pipeline.similar import columns_of_best, get_task

    names = (*more, *_WHERE, *columns_of_best(get_task(options.table)), "novelty", "taught_class")
    values = [[_short(row[name]) if not options.json else row[name] for name in names] for row in rows]
    show_table(options, title, names, values)


def _short(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def _write(options: Namespace, rows: Sequence[Mapping[str, Any]], empty: Sequence[str] = ()) -> None:
    """Write rows as CSV, with empty columns for labels that a person fills in."""
    if not options.output:
        return
    names = list(dict.fromkeys((*empty, *(name for row in rows[:1] for name in row))))
    with Path(options.output).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
