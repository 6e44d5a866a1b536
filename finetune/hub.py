"""Models to and from a hub repository: every file of the bundle, with the model card as its front page.

A bundle names the SHA-256 of all its files, and the front page that of the whole, so what comes back is checked file by
file. Who changes all three makes another model: name the digest that is meant, or the commit, where that matters.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune import tasks
from finetune.bundle import Bundle, BundleError, load_bundle
from finetune.bundle_files import INFO, digests, new_folder
from finetune.bundle_writing import free_folder
from finetune.card import model_card
from finetune.commands import Say, quiet
from finetune.jsonfile import read_json
from finetune.registry import DIGITS, Registry
from finetune.registry_commands import find_candidate
from transforms.store import Store

README = "README.md"
#: What a repository holds beside the bundle.
_OTHERS = (README, ".gitattributes")


class HubError(ValueError):
    """The hub, the repository or what lies in it is at fault; the message names the repository and the cause."""


def run_push(
    model: str | Path,
    repo: str,
    *,
    registry: str = "",
    revision: str = "",
    private: bool = False,
    licence: str = "",
    say: Say = quiet,
) -> dict[str, Any]:
    """Write a model to a hub repository, in one commit; the token is the environment's (HF_TOKEN).

    Parameters
    ----------
    model : str or Path
        Folder of the model, the name of a task, or the digest of a model of the registry.
    repo : str
        ``owner/name``; made where it is not there.
    registry : str
        Folder or URL; the name of a task means the model in production there, else the one that ships.
    revision : str
        Branch to write to; made where it is not there. The main one where empty.
    private : bool
        Whether a repository that is made is to be seen by its owner alone.
    licence : str
        Of the model, as the hub spells it; empty where it is not to be stated.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        ``repo``, ``task``, ``digest``, ``commit``, ``url``, ``files`` (their number).

    Raises
    ------
    HubError
        Where the hub cannot be reached or refuses.
    BundleError, RegistryError
        Where the model is at fault.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    bundle = _find(model, registry)
    names = [INFO, *sorted(digests(bundle.path))]
    page = front_page(bundle, licence)
    say(f"{bundle.info.task} {bundle.digest[:DIGITS]}, {len(names)} files, to {repo}")
    with _hub(repo) as api:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        there = api.list_repo_files(repo, revision=revision or None)
        gone = [name for name in there if name not in names and name not in _OTHERS]
        operations = [CommitOperationAdd(name, str(bundle.path / name)) for name in names]
        operations.append(CommitOperationAdd(README, page.encode()))
        commit = api.create_commit(
            repo, [*operations, *(CommitOperationDelete(name) for name in gone)], revision=revision or None,
            commit_message=f"nightcat {bundle.info.task} {bundle.digest[:DIGITS]}",
        )  # fmt: skip
    found = {"repo": repo, "task": bundle.info.task, "digest": bundle.digest, "commit": commit.oid}
    return {**found, "url": commit.commit_url, "files": len(names)}


def run_pull(
    repo: str,
    *,
    registry: str = "",
    output: str | Path = "",
    revision: str = "",
    digest: str = "",
    say: Say = quiet,
) -> dict[str, Any]:
    """Fetch a model from a hub repository, check it, and keep it as a candidate or in a folder.

    Parameters
    ----------
    repo : str
        ``owner/name``.
    registry : str
        Folder or URL of models: it is a candidate there, and needs ``nightcat promote`` to answer.
    output : str or Path
        Folder to write in its place; an earlier bundle there is replaced.
    revision : str
        Commit, tag or branch; the main branch where empty.
    digest : str
        Digest that the model must have, or its first digits; empty for any.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        ``repo``, ``commit``, ``task``, ``digest``, ``path``.

    Raises
    ------
    HubError
        Where the hub cannot be reached or refuses, or what it holds is no whole bundle: nothing is kept then.
    RegistryError, BundleError, OSError
        Where it cannot be kept.
    """
    if output:
        free_folder(Path(output))
    with tempfile.TemporaryDirectory(prefix="nightcat-pull-") as scratch:
        folder, commit, stated = _fetch(repo, revision, Path(scratch), say)
        try:
            bundle = load_bundle(folder)
            task = bundle.task().name
        except BundleError as error:
            cause = str(error).replace(str(folder), INFO if str(error).startswith(str(folder / INFO)) else "the model")
            raise HubError(f"{repo} at {commit[:12]} is not kept: {cause}") from error
        for wanted, who in ((digest, "was asked for"), (stated, "is stated on its front page")):
            if not bundle.digest.startswith(wanted):
                own = bundle.digest[:DIGITS]
                raise HubError(f"{repo} at {commit[:12]} is not kept: its digest is {own}, {wanted[:DIGITS]} {who}")
        if output:
            path = _copy(bundle, Path(output))
        else:
            Registry(registry).add(bundle)
            path = Path(Store(registry).path(f"{task}/bundles/{bundle.digest[:DIGITS]}"))
    return {"repo": repo, "commit": commit, "task": task, "digest": bundle.digest, "path": str(path)}


def front_page(bundle: Bundle, licence: str = "") -> str:
    """The model card with the YAML head that hubs read.

    Parameters
    ----------
    bundle : Bundle
        The model.
    licence : str
        As the hub spells it; empty where it is not stated.

    Returns
    -------
    str
        Markdown.
    """
    from huggingface_hub import EvalResult, ModelCardData

    task, info = bundle.task(), bundle.info
    best = info.metrics.get("metrics", {}).get("best", {})
    names = [name.removeprefix("-") for name in task.merit]
    results = [
        EvalResult(
            task_type=task.name, dataset_type="held-out", dataset_name=f"{info.metrics['n']} held-out objects",
            metric_type=name, metric_value=best[name][0],
        )
        for name in names
        if name in best and best[name][0] is not None
    ]  # fmt: skip
    head = ModelCardData(
        library_name="nightcat", tags=["astronomy", "nightcat", task.name, task.record.__name__],
        license=licence or None, model_name=f"nightcat {task.name}" if results else None, eval_results=results or None,
        nightcat={"task": task.name, "task_version": task.version, "digest": bundle.digest,
                  "package_version": info.package_version},
    )  # fmt: skip
    return f"---\n{head.to_yaml()}\n---\n\n{model_card(task, info, bundle.digest, {})}"


def _find(model: str | Path, registry: str) -> Bundle:
    held = Registry(registry) if registry else None
    if held is not None and str(model) in tasks.names() and held.state(str(model)).production:
        return held.bundle(str(model))
    if held is not None:
        return load_bundle(find_candidate(model, held))
    from finetune.commands import find_bundle

    return load_bundle(find_bundle(model))


def _fetch(repo: str, revision: str, scratch: Path, say: Say) -> tuple[Path, str, str]:
    """Files of the bundle that a repository holds, the commit, and the digest that its front page states."""
    stated = ""
    with _hub(repo) as api:
        commit = api.model_info(repo, revision=revision or None).sha or ""
        say(f"{repo} at {commit[:12]}")
        first = Path(api.hf_hub_download(repo, INFO, revision=commit, local_dir=scratch))
        try:
            listed = sorted(map(str, read_json(first)["files"]))
        except (ValueError, KeyError, TypeError) as error:
            raise HubError(f"{repo} at {commit[:12]} is not kept: its {INFO} is damaged: {error}") from error
        for name in listed:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise HubError(f"{repo} at {commit[:12]} is not kept: its {INFO} names a file {name!r} outside of it")
            api.hf_hub_download(repo, name, revision=commit, local_dir=scratch)
        if api.file_exists(repo, README, revision=commit):
            stated = _stated(Path(api.hf_hub_download(repo, README, revision=commit, local_dir=scratch)))
    (scratch / README).unlink(missing_ok=True)
    return scratch, commit, stated


def _stated(page: Path) -> str:
    """Digest in the head of a front page; empty where it has none."""
    from huggingface_hub import metadata_load

    ours = (metadata_load(page) or {}).get("nightcat")
    return str(ours.get("digest", "")) if isinstance(ours, dict) else ""


@contextmanager
def _hub(repo: str) -> Iterator[Any]:
    """The hub; what goes wrong with it is told in one sentence."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, HTTPError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="nightcat")
    try:
        yield api
    except EntryNotFoundError as error:
        raise HubError(f"{repo} holds no whole model: {_first_line(error)}") from error
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        raise HubError(f"{repo} on {api.endpoint}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}" if lines else type(error).__name__


def _copy(bundle: Bundle, path: Path) -> Path:
    with new_folder(path) as folder:
        for name in (*digests(bundle.path), INFO):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((bundle.path / name).read_bytes())
    return path
