"""The command that tells what a survey would cost: cost."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from pipeline.cli import EXIT_OK, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table
from pipeline.cli.guard import guarded


def cost(options: Namespace) -> int:
    """Estimate the cost of a night from a sample run and a file of prices.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    faults = [
        f"--{name} {value!r} is not a whole number of at least 1"
        for name, value in (("objects", options.objects), ("machines", options.machines))
        if value < 1
    ]
    if faults:
        return fail(faults, EXIT_USAGE)
    return guarded(options.catalog, None, partial(_cost, options))


def _cost(options: Namespace) -> int:
    from dataclasses import asdict

    from pipeline.cost import CostError, estimate, measure, read_prices

    try:
        prices, sample = read_prices(options.prices), measure(options.catalog)
    except CostError as error:
        return fail(error.faults, EXIT_USAGE)
    rows = estimate(sample, prices, options.objects, options.machines)
    if options.json:
        show(options, {"sample": asdict(sample), "currency": prices["currency"], "machines": rows}, "")
        return EXIT_OK
    unit = prices["currency"]
    title = (
        f"{options.objects} objects a night on {options.machines} machines, from {sample.runs} runs of "
        f"{sample.objects} objects: {1e3 * sample.each:.1f} process ms an object, {sample.fixed:.1f} s a run"
    )
    header = ("machine", "machine hours", "hours", f"night, {unit}", f"365 nights, {unit}", f"storage a month, {unit}")
    text = [[row["machine"], *(f"{value:.4g}" for key, value in row.items() if key != "machine")] for row in rows]
    show_table(options, title, header, text)
    return EXIT_OK
