"""One tiny model, trained for real once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transforms.measure
import transforms.readers
from finetune import tasks
from finetune.bundle import Bundle, Info
from finetune.bundle_writing import save_bundle
from finetune.train import Trained, train_task
from finetune.training_options import make_options
from tests import toy
from tests.finetune.toy_task import TASK
from transforms.records import LightCurve


@pytest.fixture(scope="session")
def trained() -> Trained:
    examples = TASK.simulate(120, 0)
    return train_task(TASK, examples[:80], examples[80:], make_options(TASK, {"members": 2}))


@pytest.fixture(scope="session")
def bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save(trained, tmp_path_factory.mktemp("bundles") / "toy")


def save(trained: Trained, path: Path, **options: Any) -> Bundle:
    info = Info(
        task="toy", task_version=1, package_version="0", classes=TASK.classes, build=trained.build,
        calibration=trained.calibration, rule=trained.rule,
    )  # fmt: skip
    return save_bundle(
        path, info=info, models=trained.models, baseline=trained.baseline, space=trained.space, **options
    )


def put_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``toys`` does, for a process of its own."""
    monkeypatch.setattr(transforms.readers, "MODULES", (toy.MODULE,))
    monkeypatch.setitem(transforms.measure.STEPS, LightCurve, (toy.MODULE, "measure_light_curve", LightCurve))
    for cached in (transforms.readers.formats, transforms.measure.columns):
        cached.cache_clear()


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy file format stands in for the real readers."""
    put_toys(monkeypatch)
    yield
    for cached in (transforms.readers.formats, transforms.measure.columns):
        cached.cache_clear()


@pytest.fixture
def sky(tmp_path: Path, toys: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty stars in six files with a label table; the toy is in the registry."""
    rng = np.random.default_rng(0)
    (tmp_path / "night").mkdir()
    lines = ["object_id,class_name"]
    for number in range(6):
        values = rng.uniform(2, 12, 10).round(3) * rng.choice([-1, 1], 10)
        (tmp_path / "night" / f"f{number}.txt").write_text("TOY\n" + "\n".join(map(str, values)) + "\n")
        lines += [f"f{number}.txt:{i},{'bright' if v > 0 else 'faint'}" for i, v in enumerate(values)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(tasks, "names", lambda: ("toy",))
    monkeypatch.setattr(tasks, "get", {"toy": TASK}.__getitem__)
    return tmp_path
