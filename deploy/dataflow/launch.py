"""What Dataflow's template launcher runs: parameters of the template to `nightcat run --engine dataflow --detach`.

The launcher hands over every parameter, and options of its own for Beam (where to write the graph, the project, the
name of the job), as ``--name=value``. It submits the job itself once this has written the graph and has ended with 0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

#: Parameters that are options of nightcat with a value; several values stand with commas between.
VALUES = (
    "input", "output", "night", "tasks", "registry", "device", "dtype", "threads", "workers", "accelerator", "min_ram",
    "order", "targets", "threshold",
)  # fmt: skip
SEVERAL = ("input",)  #: Options that take each value as a word of its own.
SWITCHES = ("embeddings", "force", "strict")  #: ``true`` or ``false``.
IMAGE = "NIGHTCAT_IMAGE"  #: Variable with the image of the workers, for when none is named: this very image.


def arguments(given: Sequence[str], image: str = "") -> list[str]:
    """Translate what the launcher hands over.

    Parameters
    ----------
    given : sequence of str
        ``--name=value``.
    image : str
        Of the workers, where no parameter names one.

    Returns
    -------
    list of str
        Words for ``nightcat``; what is no parameter of ours follows a bare ``--``, for Beam.

    Raises
    ------
    ValueError
        For a switch that is neither ``true`` nor ``false``, and for another runner.
    """
    own: list[str] = []
    beam: list[str] = []
    for word in given:
        name, _, value = word.removeprefix("--").partition("=")
        if name == "runner":
            if value != "DataflowRunner":
                raise ValueError(f"--runner={value}: this template is of Dataflow")
        elif name in SWITCHES:
            own += _switch(name, value)
        elif name not in VALUES:
            beam.append(word)
        elif value:  # a parameter that was left empty
            own += [_flag(name), *(value.split(",") if name in SEVERAL else [value])]
    if image and not any(word.startswith("--sdk_container_image=") for word in beam):
        beam.append(f"--sdk_container_image={image}")
    return ["run", "--engine", "dataflow", "--detach", *own, "--", *beam]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _switch(name: str, value: str) -> list[str]:
    if value not in ("true", "false", ""):
        raise ValueError(f"--{name}={value} is neither true nor false")
    return [_flag(name)] if value == "true" else []


def main() -> int:
    """Plan the night, note it in the catalog, and write its graph where the launcher submits it from.

    Returns
    -------
    int
        Exit code of nightcat, or 2; the launch has failed unless it is 0.
    """
    from pipeline.cli import main as nightcat

    try:
        words = arguments(sys.argv[1:], os.environ.get(IMAGE, ""))
    except ValueError as error:
        sys.stderr.write(f"nightcat: {error}\n")
        return 2
    return nightcat(words)


if __name__ == "__main__":
    sys.exit(main())
