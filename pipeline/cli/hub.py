"""Models to and from a hub: push and pull."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from pipeline.cli import EXIT_USAGE
from pipeline.cli.display import fail, show
from pipeline.cli.models import say, told
from pipeline.cli.registry import registry


def push(options: Namespace) -> int:
    """Write a model to a hub repository.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """

    def work() -> dict[str, Any]:
        from finetune.hub import run_push

        return run_push(
            options.model, options.repo, registry=registry(options), revision=options.revision,
            private=options.private, licence=options.license, say=say(options),
        )  # fmt: skip

    def tell(found: dict[str, Any]) -> None:
        text = f"{found['task']} {found['digest'][:16]} is {found['repo']} at {found['commit'][:12]}\n  {found['url']}"
        show(options, found, text)

    return told(work, tell)


def pull(options: Namespace) -> int:
    """Fetch a model from a hub repository.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    where = "" if options.output else registry(options)
    if not where and not options.output:
        return fail("pull needs --output, or a --registry in which the model is a candidate", EXIT_USAGE)

    def work() -> dict[str, Any]:
        from finetune.hub import run_pull

        return run_pull(
            options.repo, registry=where, output=options.output or "", revision=options.revision,
            digest=options.digest, say=say(options),
        )  # fmt: skip

    def tell(found: dict[str, Any]) -> None:
        short = found["digest"][:16]
        lines = [f"{found['task']} {short} of {found['repo']} at {found['commit'][:12]}: every file is as it was made"]
        if where:
            lines.append(f"  a candidate in {where}; nightcat promote {short} asks the gate")
        else:
            lines.append(f"  in {found['path']}")
        show(options, found, "\n".join(lines))

    return told(work, tell)
