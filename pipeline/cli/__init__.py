"""The command line: the only place that prints and exits. Nothing heavy is imported before a command needs it.

Exit codes: 0 done; 1 rejects under ``--strict``, or ``verify`` found faults; 2 wrong options; 3 sums do not close;
4 the output cannot be written; 5 the engine failed; 6 ``finish`` found a job that is not done; 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Sequence

from finetune.arguments import (
    LABELS,
    add_evaluate,
    add_files,
    add_generate,
    add_matching,
    add_method,
    add_pretrain,
    add_search,
    add_train,
    pair,
)

_Add = Callable[[str, str, str], argparse.ArgumentParser]
#: Imports make a million objects that live on; with Python's own threshold the collector looks through them again and
#: again, which takes a tenth of the start.
GC_THRESHOLD = (100_000, 20, 20)
EXIT_OK, EXIT_FOUND, EXIT_USAGE, EXIT_SUMS, EXIT_OUTPUT, EXIT_ENGINE, EXIT_WAITING, EXIT_INTERRUPTED = (
    *range(7),
    130,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str or None
        Arguments; those of the process where None.

    Returns
    -------
    int
        Exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    beam_options: list[str] = []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, beam_options = arguments[:cut], arguments[cut + 1 :]
    parser = build_parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "module"):
        parser.print_help()
        return EXIT_USAGE
    options.beam_options = beam_options or None
    from importlib import import_module

    gc.set_threshold(*GC_THRESHOLD)
    module, function = options.module.split(":")
    try:
        return int(getattr(import_module(module), function)(options))
    except KeyboardInterrupt:
        print("interrupted: nothing half-done was committed; run the same command again", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        sys.stderr.close()
        return EXIT_OK


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of all sub-commands.

    Returns
    -------
    argparse.ArgumentParser
        Each sub-command carries the ``module:function`` that runs it.
    """
    parser = argparse.ArgumentParser(
        prog="nightcat",
        description="A night of survey files in, a Parquet catalog that a scientist can trust out.",
        epilog="Options of the Beam runner follow after a bare --, as in: nightcat run ... -- --parallelism=2",
    )
    from pipeline.version import version

    parser.add_argument("--version", action="version", version=f"nightcat {version()}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")

    def add(name: str, where: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(module=where)
        return command

    _add_run(add("run", "pipeline.cli.run:run", "Process a night of files into the catalog."))
    _add_finish(add("finish", "pipeline.cli.finish:finish", "Commit detached runs whose jobs are done."))
    _add_profile(
        add("profile", "pipeline.cli.profile:profile", "Run a night, and tell where its time and memory went.")
    )
    _add_watch(add("watch", "pipeline.cli.watch:watch", "Process files as they arrive, and close each night."))
    _add_alerts(add("alerts", "pipeline.cli.alerts:alerts", "Process alerts from Kafka, exactly once each."))
    _add_catalog_commands(add)
    _add_model_commands(add)
    _add_registry_commands(add)
    _add_embedding_commands(add)
    _add_simulation_commands(add)
    return parser


def _add_display(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    command.add_argument("--json", action="store_true", help="print JSON lines instead of text")


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--input",
        dest="inputs",
        nargs="+",
        action="extend",
        metavar="INPUT",
        help="files, folders, globs, fsspec URLs or @list.txt",
    )
    _add_runs(command)
    command.add_argument("--strict", action="store_true", default=None, help="exit with 1 where anything was rejected")
    command.add_argument("--force", action="store_true", default=None, help="process again what is done already")
    command.add_argument(
        "--detach",
        action="store_true",
        default=None,
        help="submit the job of each night and go (flink, dataflow); nightcat finish commits",
    )
    _add_display(command)


def _add_finish(command: argparse.ArgumentParser) -> None:
    command.add_argument("catalog", metavar="CATALOG", help="root of the catalog")
    command.add_argument("--night", metavar="YYYY-MM-DD", help="only the run of this night")
    command.add_argument("--run", metavar="RUN", help="only this run")
    command.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds to wait for jobs that are not done; default 0. It ends with 6 where one is not done then",
    )
    command.add_argument(
        "--abandon", metavar="RUN", help="give this run up: nothing of it is committed, its night can be run again"
    )
    _add_display(command)


def _add_profile(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.add_argument(
        "--flame", default="", metavar="FILE.svg", help="flame graph to write; collapsed lines go to FILE.folded"
    )
    command.add_argument(
        "--rate", type=float, default=50.0, metavar="HZ", help="looks at all threads a second; default 50"
    )


def _add_watch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "inputs", nargs="+", metavar="DIR", help="folders that files arrive in; a folder named by a date is a night"
    )
    command.add_argument("--poll", type=float, default=10.0, metavar="S", help="seconds between looks; default 10")
    command.add_argument(
        "--settle", type=float, default=5.0, metavar="S", help="seconds without a change that finish a file; default 5"
    )
    command.add_argument("--done", action="store_true", help="take a file only when <name>.done lies beside it")
    command.add_argument(
        "--marker", default="night.done", metavar="NAME", help="file in a night's folder that closes the night"
    )
    command.add_argument("--close", metavar="HH:MM", help="UTC time of the day after its evening that closes a night")
    command.add_argument(
        "--noon",
        default="12:00",
        metavar="HH:MM",
        help="UTC time at which the next night begins, outside of dated folders",
    )
    command.add_argument("--idle-exit", type=float, metavar="S", help="end after so many seconds without anything new")
    _add_runs(command)
    _add_display(command)


def _add_alerts(command: argparse.ArgumentParser) -> None:
    command.add_argument("topics", nargs="+", metavar="TOPIC", help="topics; one that begins with ^ is a pattern")
    command.add_argument("--brokers", required=True, metavar="HOST:PORT", help="of the cluster; several with commas")
    command.add_argument("--group", default="nightcat", metavar="NAME", help="consumer group; default nightcat")
    command.add_argument(
        "--credentials", default="", metavar="FILE", help="lines `key = value` of librdkafka, readable by you alone"
    )
    command.add_argument(
        "--schemas", default="", metavar="URL", help="schema registry, or a folder of NUMBER.avsc, for LSST's messages"
    )
    command.add_argument(
        "--start", choices=("earliest", "latest"), default="earliest", help="of partitions that nobody knows yet"
    )
    command.add_argument("--batch", type=int, default=2000, metavar="N", help="alerts of one run at most; default 2000")
    command.add_argument(
        "--interval", type=float, default=10.0, metavar="S", help="seconds that alerts are gathered for; default 10"
    )
    command.add_argument(
        "--spool", default="", metavar="DIR", help="folder for messages as they came; default CATALOG.messages"
    )
    command.add_argument(
        "--keep",
        choices=("all", "rejects", "none"),
        default="rejects",
        help="files of messages that stay there after they are done; default those with rejects",
    )
    command.add_argument("--close", metavar="HH:MM", help="UTC time of the day after its evening that closes a night")
    command.add_argument(
        "--noon", default="12:00", metavar="HH:MM", help="UTC time at which the next night begins; default 12:00"
    )
    command.add_argument("--idle-exit", type=float, metavar="S", help="end after so many seconds without an alert")
    command.add_argument(
        "--landing", default="", metavar="DIR", help="with another engine: folder for its answers; CATALOG.landing"
    )
    command.add_argument(
        "--early", type=float, default=30.0, metavar="S", help="there: seconds to an object's first answer; default 30"
    )
    command.add_argument(
        "--lateness", type=float, default=48.0, metavar="H", help="there: hours that late alerts may come; default 48"
    )
    command.add_argument("--to-end", action="store_true", help="there: end where the topics end now")
    _add_runs(command)
    _add_display(command)


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", metavar="CATALOG", help="root of the catalog, a folder or fsspec URL")
    command.add_argument("--night", metavar="YYYY-MM-DD", help="night; default: the date in the folder's name")
    command.add_argument("--config", metavar="FILE.toml", help="options from a file; flags win over it")
    command.add_argument(
        "--tasks", type=_names, action="extend", metavar="A,B", help="tasks to run; default: all (see `nightcat tasks`)"
    )
    command.add_argument(
        "--bundle", dest="bundles", action="append", type=pair, metavar="TASK=DIR", help="model to use for a task"
    )
    command.add_argument(
        "--registry",
        metavar="DIR",
        help="models in production; default: the variable NIGHTCAT_REGISTRY, or those that ship",
    )
    command.add_argument("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; default auto")
    command.add_argument("--dtype", metavar="DTYPE", help="fp32, bf16, fp16 or auto, if the answers stay; default fp32")
    command.add_argument("--threads", type=int, metavar="N", help="torch threads of one worker; default 1")
    command.add_argument(
        "--engine", metavar="ENGINE", help="local, prism, flink or dataflow: a runner with its options; default local"
    )
    command.add_argument("--runner", metavar="RUNNER", help="Beam runner by name; default that of the engine")
    command.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="worker processes; parallel parts on Flink, machines at most on Dataflow; default auto",
    )
    command.add_argument(
        "--retries",
        type=_workers,
        metavar="N",
        help="times that a night which the engine broke off is done again; default auto: 2 on Flink, 0 elsewhere",
    )
    command.add_argument("--accelerator", metavar="HINT", help="of the inference step, where the engine grants it")
    command.add_argument("--min-ram", metavar="SIZE", help="memory of the inference step, such as 8GB")
    command.add_argument("--order", type=int, metavar="K", help="HEALPix order of a new catalog's pixels; default 3")
    command.add_argument("--targets", metavar="FILE", help="target list (id, ra, dec) to cut stamps at")
    command.add_argument("--threshold", type=float, metavar="SIGMA", help="detection threshold; default 4.5")
    command.add_argument(
        "--light-curve-columns",
        dest="light_curves",
        action="append",
        type=pair,
        metavar="KEY=COLUMN",
        help="declare a column of light-curve tables: time, time_system, mag, flux, error, band, object, ra, dec",
    )
    command.add_argument(
        "--embeddings", action="store_true", default=None, help="write the model's embedding of each object"
    )
    _add_checksums(command)


def _add_checksums(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--no-checksums",
        dest="checksums",
        action="store_false",
        default=None,
        help="read FITS files whose DATASUM or CHECKSUM is stale, as cut-out tools leave them",
    )


def _add_catalog_commands(add: _Add) -> None:
    command = add("verify", "pipeline.cli.look:verify", "Check every count, digest, schema and unit of a catalog.")
    command.add_argument("catalog", metavar="CATALOG", help="root of the catalog")
    _add_display(command)
    command = add("rejects", "pipeline.cli.look:rejects", "List what was refused, by reason.")
    command.add_argument("catalog", metavar="CATALOG", help="root of the catalog")
    command.add_argument("--night", metavar="YYYY-MM-DD", help="only this night")
    command.add_argument("--all", action="store_true", help="a line for each reject, not one for each reason")
    _add_display(command)
    command = add("replay", "pipeline.cli.run:replay", "Run again only what was refused.")
    command.add_argument("catalog", metavar="CATALOG", help="root of the catalog")
    command.add_argument("--night", metavar="YYYY-MM-DD", help="only this night")
    _add_checksums(command)
    _add_display(command)
    command = add("drift", "pipeline.cli.drift:drift", "Tell what drifted, night by night, against reference nights.")
    command.add_argument("catalog", metavar="CATALOG", help="root of the catalog")
    command.add_argument("--task", default="", metavar="TASK", help="only this table; default: all, and the rejects")
    command.add_argument(
        "--reference",
        default="",
        metavar="FIRST:LAST",
        help="undisturbed nights, as two dates or as a number of nights from the first; default 14",
    )
    command.add_argument("--labels", metavar="FILE", help="labels that have arrived, for accuracy and calibration")
    add_matching(command)
    command.add_argument(
        "--alarm",
        type=float,
        default=0.01,
        metavar="RATE",
        help="chance of any alarm in 30 undisturbed nights; default 0.01",
    )
    _add_display(command)
    command = add("compact", "pipeline.cli.compact:compact", "Merge the runs of a night: one file for each pixel.")
    command.add_argument("catalog", metavar="CATALOG", help="root of the catalog")
    command.add_argument("--night", metavar="YYYY-MM-DD", help="only this night")
    _add_display(command)
    command = add("land", "pipeline.cli.alerts:land", "Commit the nights of a stream that another engine runs.")
    command.add_argument("catalog", metavar="CATALOG", help="root of the catalog")
    command.add_argument("--landing", default="", metavar="DIR", help="folder of its answers; default CATALOG.landing")
    command.add_argument("--night", metavar="YYYY-MM-DD", help="only this night")
    _add_display(command)
    command = add("cost", "pipeline.cli.cost:cost", "Estimate what a night costs on rented machines.")
    command.add_argument("catalog", metavar="CATALOG", help="catalog of a sample run; runs of several sizes tell more")
    command.add_argument("--prices", required=True, metavar="FILE.toml", help="machines and prices (docs/engines.md)")
    command.add_argument("--objects", type=int, required=True, metavar="N", help="objects of a night")
    command.add_argument("--machines", type=int, default=1, metavar="N", help="machines at once; default 1")
    _add_display(command)
    command = add("tasks", "pipeline.cli.look:tasks", "List the science tasks.")
    _add_display(command)
    command = add("describe", "pipeline.cli.look:describe", "Describe every column and flag bit of a table.")
    command.add_argument("table", metavar="TABLE", help="a task's name, rejects or drift")
    command.add_argument("--catalog", help="as this catalog has it, with the classes that were added to a model")
    _add_display(command)
    command = add("formats", "pipeline.cli.look:list_formats", "List the file formats that are read.")
    _add_display(command)


def _add_model_commands(add: _Add) -> None:
    command = add(
        "pretrain",
        "pipeline.cli.pretrain:pretrain",
        "Pretrain a backbone on unlabelled files, by hiding parts of them.",
    )
    add_pretrain(command)
    _add_display(command)
    command = add(
        "generate",
        "pipeline.cli.generate:generate",
        "Generate a missing band, a denser cadence or a missing range, with errors, beside what was observed.",
    )
    add_generate(command)
    _add_display(command)
    command = add("train", "pipeline.cli.models:train", "Fine-tune the model of a task on labelled files.")
    add_train(command)
    _add_display(command)
    command = add(
        "search", "pipeline.cli.models:search", "Search for the options of a training, and train with the best ones."
    )
    add_search(command)
    _add_display(command)
    command = add("evaluate", "pipeline.cli.models:evaluate", "Judge a model against labels, beside its baseline.")
    add_evaluate(command)
    _add_display(command)

    _add_explain(add("explain", "pipeline.cli.explain:explain", "Show which pixels, wavelengths and times decided."))
    command = add(
        "export", "pipeline.cli.models:export", "Write a model as a torch.export program that runs without nightcat."
    )
    command.add_argument("bundle", metavar="BUNDLE", help="folder of the model, or the name of a task for its own")
    command.add_argument("--output", required=True, metavar="FILE.pt2", help="file to write")
    _add_display(command)
    command = add(
        "adapt",
        "pipeline.cli.models:adapt",
        "Adapt a model to an instrument by some tens of its files; no labels.",
    )
    command.add_argument("bundle", metavar="BUNDLE", help="folder of the model, or the name of a task for its own")
    add_files(command, "files of one instrument")
    command.add_argument(
        "--output", required=True, metavar="BUNDLE", help="folder of the adapted model, for run --bundle"
    )
    _add_display(command)


def _add_explain(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", metavar="BUNDLE", help="folder of the model, or the name of a task for its own")
    command.add_argument("--input", nargs="+", action="extend", metavar="INPUT", help="files to draw the objects from")
    command.add_argument("--catalog", metavar="CATALOG", help="draw them from a catalog instead, of one night")
    command.add_argument("--night", metavar="YYYY-MM-DD", help="the night, with --catalog")
    command.add_argument(
        "--output", required=True, metavar="DIR", help="folder for explanations.parquet, report.json, a page, pictures"
    )
    command.add_argument("--n", type=int, default=20, metavar="N", help="objects, drawn by chance; default 20")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is random; default 0")
    command.add_argument(
        "--target", default="", metavar="NAME", help="column or class; default: every column, or the class that wins"
    )
    command.add_argument(
        "--method",
        default="integrated_gradients",
        choices=("integrated_gradients", "rollout"),
        help="integrated_gradients (default: signed, adds up to the answer), or rollout of the attentions",
    )
    command.add_argument(
        "--steps", type=int, default=0, metavar="N", help="points of the way from nothing seen; default: the task's own"
    )
    command.add_argument("--device", default="cpu", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps")
    _add_display(command)


def _add_registry_commands(add: _Add) -> None:
    where = "folder or URL of the models in production; default: the variable NIGHTCAT_REGISTRY"
    command = add("models", "pipeline.cli.registry:models", "List which model answers for each task.")
    command.add_argument("--registry", metavar="DIR", help=where)
    _add_display(command)
    command = add(
        "promote",
        "pipeline.cli.registry:promote",
        "Put a model into production, if it holds against the one that is there; exit code 1 if not.",
    )
    command.add_argument("bundle", metavar="BUNDLE", help="folder of the model, or a digest in the registry")
    command.add_argument("--registry", metavar="DIR", help=where)
    command.add_argument("--labels", metavar="FILE", help="labels of the test objects; default: those of last time")
    command.add_argument("--input", nargs="+", action="extend", metavar="INPUT", help="files with the test objects")
    add_matching(command)
    command.add_argument(
        "--floor", dest="floors", action="append", type=pair, metavar="CLASS=RECALL", help="lowest recall of a class"
    )
    _add_display(command)
    command = add(
        "retrain",
        "pipeline.cli.retrain:retrain",
        "Train again where labels, drift or age call for it, and promote the result if it holds; exit code 1 if not.",
    )
    command.add_argument("--catalog", required=True, metavar="CATALOG", help="root of the catalog")
    command.add_argument("--labels", required=True, metavar="FILE", help=f"{LABELS}, on this machine")
    command.add_argument("--registry", metavar="DIR", help=where)
    command.add_argument("--task", default="", metavar="TASK", help="default: every task whose labels the file has")
    command.add_argument("--min-labels", type=int, default=100, metavar="N", help="new objects enough; default 100")
    command.add_argument("--max-age", type=float, metavar="DAYS", help="days that a model may be in production")
    command.add_argument(
        "--class-labels",
        type=_count,
        default=30,
        metavar="N",
        help="labelled objects with which a taught class becomes a full one; default 30",
    )
    command.add_argument(
        "--add-class", dest="classes", action="append", metavar="NAME", help="a class of the labels that was not taught"
    )
    command.add_argument("--dry-run", action="store_true", help="decide, and do nothing")
    add_method(command)
    command.add_argument(
        "--floor", dest="floors", action="append", type=pair, metavar="CLASS=RECALL", help="lowest recall of a class"
    )
    add_matching(command)
    _add_display(command)
    _add_hub(add, where)
    command = add("rollback", "pipeline.cli.registry:rollback", "Put the model that was in production before back.")
    command.add_argument("task", metavar="TASK", help="a task's name")
    command.add_argument("--registry", metavar="DIR", help=where)
    _add_display(command)


def _add_hub(add: _Add, where: str) -> None:
    command = add("push", "pipeline.cli.hub:push", "Write a model to a hub repository, with its card as front page.")
    command.add_argument(
        "model",
        metavar="BUNDLE_OR_TASK",
        help="folder of the model, a digest in the registry, or a task: the one in production, else the one that ships",
    )
    command.add_argument("repo", metavar="REPO", help="owner/name; HF_ENDPOINT names another hub, HF_TOKEN the token")
    command.add_argument("--registry", metavar="DIR", help=where)
    command.add_argument("--revision", default="", metavar="BRANCH", help="branch to write to; default: the main one")
    command.add_argument("--private", action="store_true", help="a repository that is made is for its owner alone")
    command.add_argument("--license", default="", metavar="NAME", help="of the model, as the hub spells it")
    _add_display(command)
    command = add(
        "pull", "pipeline.cli.hub:pull", "Fetch a model from a hub repository and check it; it is a candidate then."
    )
    command.add_argument("repo", metavar="REPO", help="owner/name; HF_ENDPOINT names another hub, HF_TOKEN the token")
    command.add_argument("--registry", metavar="DIR", help=where)
    command.add_argument("--output", metavar="DIR", help="write the model to a folder instead")
    command.add_argument(
        "--revision", default="", metavar="REV", help="commit, tag or branch; default: the main branch"
    )
    command.add_argument("--digest", default="", metavar="SHA256", help="digest that the model must have")
    _add_display(command)


def _add_embedding_commands(add: _Add) -> None:
    def model(command: argparse.ArgumentParser) -> None:
        command.add_argument("--bundle", metavar="DIR", help="model that made the rows; default: the one that ships")
        command.add_argument(
            "--registry", metavar="DIR", help="registry that holds it; or the variable NIGHTCAT_REGISTRY"
        )
        command.add_argument("--night", metavar="YYYY-MM-DD", help="only this night")

    def common(command: argparse.ArgumentParser, what: str, n: int) -> None:
        model(command)
        command.add_argument("-n", type=_count, default=n, metavar="N", help=f"{what}; default {n}")
        _add_display(command)

    command = add(
        "similar",
        "pipeline.cli.similar:similar",
        "Find the objects of a catalog that are most like others (after run --embeddings).",
    )
    command.add_argument("catalog", metavar="CATALOG", help="root of a catalog")
    command.add_argument("table", metavar="TABLE", help="a task's name")
    command.add_argument("--ids", nargs="+", action="extend", metavar="ID", help="object_id of objects in the table")
    command.add_argument("--input", nargs="+", action="extend", metavar="INPUT", help="files with other objects")
    common(command, "how many for each object", 10)

    command = add(
        "map",
        "pipeline.cli.similar:draw_map",
        "Draw the objects of a catalog in two dimensions, as their model sees them (after run --embeddings).",
    )
    command.add_argument("catalog", metavar="CATALOG", help="root of a catalog")
    command.add_argument("table", metavar="TABLE", help="a task's name")
    command.add_argument("--output", required=True, metavar="DIR", help="folder for a page, the picture, report.json")
    command.add_argument("--column", default="", metavar="NAME", help="that gives the colours; default: the best class")
    model(command)
    _add_display(command)

    command = add(
        "unknown",
        "pipeline.cli.similar:unknown",
        "List the objects that are far from all training objects, grouped by what they are like.",
    )
    command.add_argument("catalog", metavar="CATALOG", help="root of a catalog")
    command.add_argument("table", metavar="TABLE", help="a task's name")
    command.add_argument("--smallest", type=_count, default=5, metavar="N", help="fewest objects of a group; default 5")
    command.add_argument("--output", metavar="FILE.csv", help="write all of them with their groups")
    common(command, "how many of each group to show", 5)

    command = add(
        "label-queue", "pipeline.cli.similar:label_queue", "List the objects of a catalog that are most worth a label."
    )
    command.add_argument("catalog", metavar="CATALOG", help="root of a catalog")
    command.add_argument("table", metavar="TABLE", help="a task's name")
    command.add_argument("--output", metavar="FILE.csv", help="write them, with empty columns for the labels")
    common(command, "how many", 50)

    command = add(
        "teach",
        "pipeline.cli.similar:teach",
        "Teach a model a class by a handful of examples in a catalog; shown from the next run on.",
    )
    command.add_argument("task", metavar="TASK", help="a task's name")
    command.add_argument("--class", dest="cls", required=True, metavar="NAME", help="name of the class")
    command.add_argument(
        "--ids", nargs="+", action="extend", required=True, metavar="ID", help="object_id of the examples; 3 or more"
    )
    command.add_argument("--catalog", required=True, metavar="CATALOG", help="catalog that holds their embeddings")
    command.add_argument("--bundle", metavar="DIR", help="model that made the rows; default: the one that ships")
    command.add_argument(
        "--registry", metavar="DIR", help="registry whose production model learns it; or the variable NIGHTCAT_REGISTRY"
    )
    command.add_argument("--output", metavar="BUNDLE", help="write the model there instead, for run --bundle")
    _add_display(command)


def _count(text: str) -> int:
    """A whole number of at least 1, as a type of argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _add_simulation_commands(add: _Add) -> None:
    command = add("simulate", "pipeline.cli.demo:simulate", "Write a simulated night of files with its truth.")
    command.add_argument("output", metavar="DIRECTORY", help="folder to write; night/ and truth/ are made in it")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed; default 0")
    command.add_argument("--scale", type=float, default=1.0, metavar="X", help="size of the night; default 1")
    _add_display(command)
    command = add("demo", "pipeline.cli.demo:demo", "Simulate a night, process it, and judge the catalog.")
    command.add_argument("--directory", default="demo", metavar="DIRECTORY", help="where; default ./demo")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed; default 0")
    command.add_argument("--scale", type=float, default=1.0, metavar="X", help="size of the night; default 1")
    _add_display(command)


def _workers(text: str) -> int | str:
    """A number, or the text itself for the configuration to judge."""
    return int(text) if text.lstrip("-").isdigit() else text


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
