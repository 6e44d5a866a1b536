from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import fsspec
import pytest

from finetune.bundle import Bundle, BundleError
from finetune.bundle_files import INFO
from finetune.bundle_writing import derive_bundle
from finetune.registry import KEPT, Registry, RegistryError
from transforms.store import Busy, Store


def variants(bundle: Bundle, folder: Path, count: int) -> list[Bundle]:
    return [derive_bundle(bundle, folder / f"v{n}", created_by=f"number {n}") for n in range(count)]


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_candidate_production_previous(
    place: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fsspec.filesystem("memory").store.clear()
    registry = Registry(str(tmp_path / "models") if place == "folder" else "memory://models")
    one, two, three = (b for b in variants(bundle, tmp_path, 3))
    first, second, third = (b.digest[:16] for b in (one, two, three))
    assert registry.tasks() == []
    assert registry.state("toy").production == ""
    with pytest.raises(RegistryError, match="no model of task 'toy' is in production"):
        registry.bundle("toy")

    assert registry.add(one).candidate == first
    assert registry.add(one).events == registry.state("toy").events, "twice is once"
    state = registry.promote("toy", one.digest, {"refused": [], "n": 70})
    assert (state.production, state.candidate, state.previous) == (first, "", ())
    assert json.loads(registry.store.read(f"toy/{state.events[-1]['gate']}"))["n"] == 70
    registry.add(two)
    state = registry.promote("toy", second[:6], {"refused": []})
    assert (state.production, state.previous) == (second, (first,))
    assert registry.tasks() == ["toy"]
    loaded = registry.bundle("toy")
    assert loaded.digest == two.digest
    assert loaded.info.created_by == "number 1"

    state = registry.rollback("toy")
    assert (state.production, state.candidate, state.previous) == (first, second, ())
    assert registry.bundle("toy").digest == one.digest
    with pytest.raises(RegistryError, match=f"no earlier model of task 'toy' to go back to; {first} is in production"):
        registry.rollback("toy")
    registry.add(three)
    state = registry.refuse("toy", third, {"refused": ["accuracy is worse"]})
    assert (state.production, state.candidate) == (first, third)
    assert state.events[-1]["reasons"] == ["accuracy is worse"]
    with pytest.raises(RegistryError, match="was refused: accuracy is worse"):
        registry.promote("toy", third, {"refused": ["accuracy is worse"]})
    assert [event["what"] for event in registry.state("toy").events] == [
        "added", "promoted", "added", "promoted", "rolled back", "added", "refused",
    ]  # fmt: skip


def test_names_that_are_not_there(bundle: Bundle, tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"))
    registry.add(bundle)
    with pytest.raises(
        RegistryError, match=f"no model of task 'toy' with digest 'ffff'; it holds {bundle.digest[:16]}"
    ):
        registry.bundle("toy", "ffff")
    (tmp_path / "models" / "toy" / "state.json").write_text("{")
    with pytest.raises(RegistryError, match="is damaged"):
        registry.state("toy")


def test_a_model_that_was_changed_is_not_loaded_and_not_gone_back_to(bundle: Bundle, tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"))
    one, two = variants(bundle, tmp_path, 2)
    for each in (one, two):
        registry.add(each)
        registry.promote("toy", each.digest, {})
    file = tmp_path / "models" / "toy" / "bundles" / one.digest[:16] / "baseline.json"
    file.write_text("{}\n")
    with pytest.raises(BundleError, match=r"baseline.json is damaged"):
        registry.rollback("toy")
    assert registry.state("toy").production == two.digest[:16], "production is untouched"
    info = tmp_path / "models" / "toy" / "bundles" / two.digest[:16] / INFO
    info.write_text(info.read_text().replace("number 1", "number 9"))
    with pytest.raises(BundleError, match="was changed: its digest is"):
        registry.bundle("toy")


def test_only_some_are_kept_to_go_back_to(bundle: Bundle, tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"))
    made = variants(bundle, tmp_path, KEPT + 2)
    for each in made:
        registry.add(each)
        state = registry.promote("toy", each.digest, {})
    assert state.previous == tuple(b.digest[:16] for b in reversed(made[1:-1]))
    state = registry.promote("toy", made[5].digest, {})
    assert state.production not in state.previous


def test_one_writer_at_a_time(bundle: Bundle, tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"))
    with (
        registry.store.held("toy/.lock", "it"),
        pytest.raises(Busy, match="another run is writing to the models of task"),
    ):
        registry.add(bundle)
    registry.add(bundle)


def killed_at(root: str, bundle: Bundle, write: int) -> None:
    """Dies in the middle of the given write."""
    done = [0]
    whole = Store.write

    def some(self: Store, name: str, data: bytes, *, durable: bool = True) -> None:
        done[0] += 1
        if done[0] == write:
            os.kill(os.getpid(), signal.SIGKILL)
        whole(self, name, data, durable=durable)

    Store.write = some  # type: ignore[method-assign]
    registry = Registry(root)
    registry.add(bundle)
    registry.promote("toy", bundle.digest, {"refused": []})


def test_whatever_kills_a_promotion_production_is_whole(bundle: Bundle, tmp_path: Path) -> None:
    one, two = variants(bundle, tmp_path, 2)
    root = tmp_path / "models"
    registry = Registry(str(root))
    registry.add(one)
    registry.promote("toy", one.digest, {})
    codes = []
    context = multiprocessing.get_context("fork")
    while not codes or codes[-1]:
        process = context.Process(target=killed_at, args=(str(root), two, len(codes) + 1))
        process.start()
        process.join()
        codes.append(process.exitcode)
        production = registry.bundle("toy")
        assert production.digest == (two if codes[-1] == 0 else one).digest
    assert len(codes) > 5
    assert set(codes) == {0, -signal.SIGKILL}
    assert registry.state("toy").previous == (one.digest[:16],)
