"""The command of generation."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from pipeline.cli import EXIT_USAGE
from pipeline.cli.display import fail, show
from pipeline.cli.models import called, figure, inputs, say, told


def generate(options: Namespace) -> int:
    """Generate what was not observed, or, with ``--fit``, learn what that needs.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    if options.fit == bool(options.output):
        return fail("generate needs either --fit, or --output", EXIT_USAGE)
    if options.fit and (options.band or options.cadence or options.wavelengths or options.observed):
        return fail("--fit goes with no --band, --cadence, --range or --with-observed", EXIT_USAGE)
    if options.fit:
        return told(lambda: _fit(options), lambda found: show(options, found, fitted(found)))
    return told(lambda: _generate(options), lambda found: show(options, found, summary(found)))


def _fit(options: Namespace) -> dict[str, Any]:
    from finetune.generate import run_fit

    return run_fit(options.backbone, inputs(options), seed=options.seed, command=called(), say=say(options))


def _generate(options: Namespace) -> dict[str, Any]:
    from finetune.generate import run_generate

    return run_generate(
        options.backbone, inputs(options), options.output, band=options.band, cadence=options.cadence,
        wavelengths=options.wavelengths, method=options.method, observed=options.observed, command=called(),
        say=say(options),
    )  # fmt: skip


def fitted(found: dict[str, Any]) -> str:
    """How both methods were judged, for a person.

    Parameters
    ----------
    found : dict
        From ``run_fit``.

    Returns
    -------
    str
        A line for each kind of hole and method.
    """
    lines = [
        f"{found['path']}: {found['counts']['train']} objects to learn from, {found['counts']['held_out']} judged, "
        f"digest {found['digest'][:16]}"
    ]
    for kind, told_ in found["kinds"].items():
        for method in ("learned", "classical"):
            one = told_[method]
            best = "  (best)" if told_["best"] == method else ""
            lines.append(
                f"  {kind:8} {method:10} rms {figure(one['rms'])} {found['unit']}, errors cover "
                f"{figure(one['coverage_68'])} and {figure(one['coverage_95'])} at 68 and 95 %{best}"
            )
    return "\n".join(lines)


def summary(found: dict[str, Any]) -> str:
    """What was generated, for a person.

    Parameters
    ----------
    found : dict
        From ``run_generate``.

    Returns
    -------
    str
        A line for the file, and one for each way in which it was made.
    """
    lines = [
        f"{found['path']}: {found['rows']} generated rows of {found['objects']} objects, "
        f"{len(found['refused'])} left out, model {found['model_digest']}"
    ]
    for name, number in found["methods"].items():
        lines.append(
            f"  {name}, {number} objects; 68 % errors cover {figure(found['coverage_68'][name])} of held-out data"
        )
    return "\n".join(lines)
