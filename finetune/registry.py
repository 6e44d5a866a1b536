"""Which model of a task answers: candidate, production and previous ones, each immutable and known by its digest.

::

    <registry>/<task>/bundles/<digest>/    a bundle (finetune.bundle); written once, never changed
    <registry>/<task>/state.json           what is candidate, production and previous, and what was decided when
    <registry>/<task>/gates/<n>.json       the comparison behind each decision

The state is one small file that is replaced as a whole, so that a reader sees the model before a promotion or the one
after it, however the promotion ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune.bundle import Bundle, BundleError, load_bundle
from finetune.bundle_files import INFO, new_folder
from finetune.jsonfile import json_bytes
from transforms.store import Store

STATE, BUNDLES, GATES, LOCK = "state.json", "bundles", "gates", ".lock"
FORMAT = 1
KEPT = 10  #: Previous models that a rollback can go back to.
DIGITS = 16  #: Of a digest, in names and in the state.


class RegistryError(ValueError):
    """The registry cannot do what was asked; the message says what it holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What the registry holds of one task.

    Parameters
    ----------
    task : str
        Its name.
    production : str
        Digest of the model that answers; empty where none was promoted.
    candidate : str
        Digest of the model that was added last and is not promoted; empty for none.
    previous : tuple of str
        Models that were in production before, the latest first.
    events : tuple of dict
        What was decided: ``what``, ``digest``, ``time``, ``reasons``, ``gate`` (file of the comparison).
    """

    task: str
    production: str = ""
    candidate: str = ""
    previous: tuple[str, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()


class Registry:
    """A folder of models and of what was decided about them.

    Parameters
    ----------
    url : str
        Folder or fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.store = Store(url)

    def tasks(self) -> list[str]:
        """Tasks that it holds models of.

        Returns
        -------
        list of str
            Sorted.
        """
        return [name for name in self.store.folders() if self.store.exists(f"{name}/{STATE}")]

    def state(self, task: str) -> State:
        """What it holds of a task.

        Parameters
        ----------
        task : str
            Name of the task.

        Returns
        -------
        State
            Empty for a task that it does not know.

        Raises
        ------
        RegistryError
            Where the file is damaged.
        """
        name = f"{task}/{STATE}"
        try:
            content = json.loads(self.store.read(name))
        except FileNotFoundError:
            return State(task=task)
        except ValueError as error:
            raise RegistryError(f"{self.store.path(name)} is damaged: {error}") from error
        if content.pop("format", None) != FORMAT:
            raise RegistryError(f"{self.store.path(name)} is not of registry format {FORMAT}")
        return State(**{**content, "previous": tuple(content["previous"]), "events": tuple(content["events"])})

    def add(self, bundle: Bundle) -> State:
        """Copy a model into the registry; it is the candidate from then on.

        Parameters
        ----------
        bundle : Bundle
            Checked.

        Returns
        -------
        State
            Unchanged where it is there already, in production or not.

        Raises
        ------
        Busy
            Where another process changes the registry.
        """
        task, digest = bundle.info.task, bundle.digest[:DIGITS]
        with self._changing(task) as state:
            self._copy(bundle, f"{task}/{BUNDLES}/{digest}")
            if digest in (state.production, state.candidate):
                return state
            return self._write(replace(state, candidate=digest), "added", digest)

    def bundle(self, task: str, digest: str = "") -> Bundle:
        """A model on this machine.

        Parameters
        ----------
        task : str
            Name of the task.
        digest : str
            Its digest, or the first digits; production where empty.

        Returns
        -------
        Bundle
            Checked: of the registry itself where it is a local folder, else a copy in the user's cache.

        Raises
        ------
        RegistryError
            Where there is no such model.
        BundleError
            Where it is damaged.
        """
        digest = digest or self.state(task).production
        if not digest:
            raise RegistryError(f"{self.store.url}: no model of task {task!r} is in production")
        known = self.digests(task)
        found = [name for name in known if name.startswith(digest[:DIGITS])]
        if len(found) != 1:
            what = "no model" if not found else f"{len(found)} models"
            held = ", ".join(known) or "none"
            raise RegistryError(f"{self.store.url}: {what} of task {task!r} with digest {digest!r}; it holds {held}")
        name = f"{task}/{BUNDLES}/{found[0]}"
        path = Path(self.store.path(name)) if self.store.local else self._fetch(name)
        bundle = load_bundle(path)
        if bundle.digest[:DIGITS] != found[0] or bundle.info.task != task:
            raise BundleError(f"{self.store.path(name)} was changed: its digest is {bundle.digest[:DIGITS]} now")
        return bundle

    def digests(self, task: str) -> list[str]:
        """Models that it holds of a task.

        Parameters
        ----------
        task : str
            Name of the task.

        Returns
        -------
        list of str
            Sorted.
        """
        return [d for d in self.store.folders(f"{task}/{BUNDLES}") if self.store.exists(f"{task}/{BUNDLES}/{d}/{INFO}")]

    def promote(self, task: str, digest: str, gate: Mapping[str, Any]) -> State:
        """Put a model into production.

        Parameters
        ----------
        task : str
            Name of the task.
        digest : str
            Of a model that was added.
        gate : mapping
            The comparison that allows it, from ``finetune.gate``.

        Returns
        -------
        State
            With the new production.

        Raises
        ------
        RegistryError
            Where there is no such model, or the gate does not allow it.
        """
        digest = self.bundle(task, digest).digest[:DIGITS]
        if gate.get("refused"):
            raise RegistryError(f"{digest} of task {task!r} was refused: {'; '.join(gate['refused'])}")
        with self._changing(task) as state:
            if digest == state.production:
                return state
            previous = tuple(d for d in (state.production, *state.previous) if d and d != digest)[:KEPT]
            candidate = "" if state.candidate == digest else state.candidate
            after = replace(state, production=digest, previous=previous, candidate=candidate)
            return self._write(after, "promoted", digest, gate)

    def refuse(self, task: str, digest: str, gate: Mapping[str, Any]) -> State:
        """Note that a candidate was not let through; production stays.

        Parameters
        ----------
        task : str
            Name of the task.
        digest : str
            Of the candidate.
        gate : mapping
            The comparison, with its reasons.

        Returns
        -------
        State
            With the event; the candidate stays one.
        """
        with self._changing(task) as state:
            return self._write(state, "refused", digest[:DIGITS], gate)

    def rollback(self, task: str) -> State:
        """Put the model that was in production before back.

        Parameters
        ----------
        task : str
            Name of the task.

        Returns
        -------
        State
            With the old production; the one that is taken back is the candidate again.

        Raises
        ------
        RegistryError
            Where there is none to go back to.
        BundleError
            Where it is damaged; production stays.
        """
        with self._changing(task) as state:
            if not state.previous:
                now = f"{state.production} is in production" if state.production else "none is in production"
                raise RegistryError(f"{self.store.url}: no earlier model of task {task!r} to go back to; {now}")
            first, *rest = state.previous
            self.bundle(task, first)
            after = replace(state, production=first, previous=tuple(rest), candidate=state.production)
            return self._write(after, "rolled back", first)

    @contextmanager
    def _changing(self, task: str) -> Iterator[State]:
        with self.store.held(f"{task}/{LOCK}", f"the models of task {task!r} in {self.store.url!r}"):
            yield self.state(task)

    def _write(self, state: State, what: str, digest: str, gate: Mapping[str, Any] | None = None) -> State:
        number = len(state.events)
        event: dict[str, Any] = {"what": what, "digest": digest, "time": datetime.now(UTC).isoformat("T", "seconds")}
        if gate is not None:
            event["gate"] = f"{GATES}/{number:04d}.json"
            event["reasons"] = list(gate.get("refused", ()))
            self.store.write(f"{state.task}/{event['gate']}", json_bytes(gate))
        state = replace(state, events=(*state.events, event))
        self.store.write(f"{state.task}/{STATE}", json_bytes({"format": FORMAT, **asdict(state)}))
        return state

    def _copy(self, bundle: Bundle, name: str) -> None:
        """Write the files of a bundle, ``bundle.json`` last: what is half there is no bundle and is written again."""
        if self.store.exists(f"{name}/{INFO}"):
            return
        names = sorted(p.relative_to(bundle.path).as_posix() for p in bundle.path.rglob("*") if p.is_file())
        names = [n for n in names if n != INFO and not any(part.startswith(".") for part in n.split("/"))]
        for one in (*names, INFO):
            self.store.write(f"{name}/{one}", (bundle.path / one).read_bytes())

    def _fetch(self, name: str) -> Path:
        """Copy a bundle from a remote registry into the cache, once; its name is its digest, so it never grows old."""
        path = cache_folder() / name.replace("/", "-")
        if (path / INFO).is_file():
            return path
        with new_folder(path) as folder:
            for one in self.store.find(name):
                target = folder / one[len(name) + 1 :]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.store.read(one))
        return path


def cache_folder() -> Path:
    """Where models of remote registries are kept.

    Returns
    -------
    Path
        Below ``$XDG_CACHE_HOME``, or ``~/.cache``; it may be deleted at any time.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nightcat" / "models"
