from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from finetune.bundle import Bundle
from finetune.devices import DeviceError, resolve_device
from finetune.network import Network, accepted, run_network, stack, to_tensor
from finetune.predict import TaskPredictor, load_predictor, loader
from finetune.task import Prepared
from finetune.train import Trained
from finetune.wrappers import Classical, Finite, Typed, typed
from tests.finetune.toy_task import TASK, Cut, build
from transforms.columns import BOOL, FLOAT32, FLOAT64, INT64, STRING, Column
from transforms.flags import bits, decode
from transforms.predictor import Loader, Predictor


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> TaskPredictor:
    return load_predictor(bundle.path, task=TASK)


@pytest.fixture(scope="module")
def batch(predictor: TaskPredictor) -> list[Prepared]:
    return [predictor.prepare(example.record) for example in TASK.simulate(12, 5)]


def test_it_is_a_predictor(bundle: Bundle, predictor: TaskPredictor, batch: list[Prepared]) -> None:
    protocol: Predictor = predictor
    assert (protocol.task, protocol.record, protocol.batch_size) == ("toy", TASK.record, 4)
    assert protocol.digest == bundle.digest[:16]
    assert protocol.columns == TASK.all_columns()
    rows = protocol.predict(batch[:3])
    assert len(rows) == 3
    for row in rows:
        assert list(row) == [c.name for c in TASK.all_columns()] + ["flags"]
    assert protocol.predict([]) == []


def test_memory_and_disk_answer_alike(trained: Trained, predictor: TaskPredictor, batch: list[Prepared]) -> None:
    assert trained.predictor().predict(batch[:4]) == predictor.predict(batch[:4])


def test_it_has_learnt(predictor: TaskPredictor) -> None:
    examples = TASK.simulate(40, 77)
    rows = [predictor.predict([predictor.prepare(e.record)])[0] for e in examples]
    assert TASK.metrics(rows, [e.labels for e in examples], "")["accuracy"] >= 0.95


def test_the_loader_crosses_processes(bundle: Bundle, predictor: TaskPredictor, batch: list[Prepared]) -> None:
    load: Loader = pickle.loads(pickle.dumps(loader(bundle.path, device="cpu", threads=1, task=None)))
    with pytest.raises(ValueError, match="no task named 'toy'"):
        load()  # the toy is in no registry; with one, this is all that a worker needs


@pytest.mark.parametrize("place", range(4))
def test_an_answer_is_bit_equal_in_any_place_with_any_mates(
    trained: Trained, batch: list[Prepared], place: int
) -> None:
    network = Network(trained.models, torch.device("cpu"))
    one = batch[0]
    alone = network([one], 4)["logits"][0]
    for mates in (batch[1:4], batch[4:7], [one] * 3):
        mixed = [*mates[:place], one, *mates[place:]]
        np.testing.assert_array_equal(network(mixed, 4)["logits"][place], alone)


def test_rows_do_not_depend_on_the_batch(predictor: TaskPredictor, batch: list[Prepared]) -> None:
    alone = [predictor.predict([one])[0] for one in batch]
    together = [row for i in range(0, 12, 4) for row in predictor.predict(batch[i : i + 4])]
    backwards = [row for i in range(0, 12, 4) for row in predictor.predict(batch[::-1][i : i + 4])][::-1]
    assert alone == together == backwards


def test_another_shape_keeps_six_digits(predictor: TaskPredictor, batch: list[Prepared]) -> None:
    full = [row for i in range(0, 12, 4) for row in predictor.predict(batch[i : i + 4])]
    halved = [row for i in range(0, 12, 2) for row in predictor.predict(batch[i : i + 2], 2)]
    for one, two in zip(full, halved, strict=True):
        assert one["class_name"] == two["class_name"]
        assert one["p_bright"] == pytest.approx(two["p_bright"], rel=2e-6)


def test_a_batch_larger_than_its_shape_is_refused(predictor: TaskPredictor, batch: list[Prepared]) -> None:
    with pytest.raises(ValueError, match="a batch of 5 does not fit a shape of 4"):
        predictor.predict(batch[:5])


def test_out_of_memory_is_not_swallowed(trained: Trained, batch: list[Prepared]) -> None:
    class Full(torch.nn.Module):
        def forward(self, flux: torch.Tensor) -> dict[str, torch.Tensor]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError, match="1 of 1 inputs do not fit into the memory of cpu, not even alone"):
        Network([Full()], torch.device("cpu"))(batch[:1], 4)


def test_nothing_that_is_not_finite_gets_out(trained: Trained, batch: list[Prepared]) -> None:
    predictor = trained.predictor()
    bad = {**batch[0], "flux": np.full_like(batch[0]["flux"], np.nan), "empty": np.array(True)}
    good, failed = predictor.predict([batch[1], bad])
    assert good == predictor.predict([batch[1]])[0], "a poisoned mate changes nothing"
    assert failed["class_name"] is failed["p_bright"] is failed["best_class_name"] is failed["baseline_score"] is None
    assert {"BAD_DATA", "MODEL_FAILED", "MEASURE_FAILED"} <= set(decode(failed["flags"]))


class Fixed:
    columns = (
        Column("a", FLOAT32, "", "x", "A"),
        Column("b", INT64, "", "x", "B"),
        Column("c", BOOL, "", "x", "C"),
        Column("d", STRING, "", "x", "D"),
        Column("e", FLOAT64, "", "x", "E"),
    )

    def __init__(self, **row: Any) -> None:
        self.row = row

    def predict(self, batch: Sequence[Prepared], size: int) -> list[dict[str, Any]]:
        return [dict(self.row) for _ in batch]


def test_rows_are_typed_and_rounded() -> None:
    row = {"a": np.float32(1 / 3), "b": np.int32(7), "c": np.bool_(True), "d": np.str_("x"), "e": np.float64(1 / 3)}
    out = Typed(Fixed(**row)).predict([{}], 1)[0]
    assert out == {"a": 0.333333, "b": 7, "c": True, "d": "x", "e": 1 / 3, "flags": 0}
    assert [type(v) for v in out.values()] == [float, int, bool, str, float, int]
    assert typed({**row, "a": None, "flags": 3}, Fixed.columns)["a"] is None
    with pytest.raises(ValueError, match="differ in a, z"):
        typed({"b": 1, "c": True, "d": "", "e": 0.0, "z": 1}, Fixed.columns)


def test_finite_sets_its_flag_and_keeps_others() -> None:
    row = {"a": float("inf"), "b": 1, "c": True, "d": "nan", "e": np.float64("nan"), "flags": bits("EDGE")}
    out = Finite(Fixed(**row), "MODEL_FAILED").predict([{}], 1)[0]
    assert (out["a"], out["b"], out["c"], out["d"], out["e"]) == (None, 1, True, "nan", None)
    assert decode(out["flags"]) == ("EDGE", "MODEL_FAILED")
    assert Finite(Fixed(a=1.0), "MODEL_FAILED").predict([{}], 1)[0] == {"a": 1.0, "flags": 0}


def test_rows_and_inputs_must_be_as_many() -> None:
    class Short(Fixed):
        def predict(self, batch: Sequence[Prepared], size: int) -> list[dict[str, Any]]:
            return []

    with pytest.raises(ValueError, match="1 inputs gave 0 rows"):
        Typed(Short()).predict([{}], 1)


def test_the_baseline_sees_the_fixed_shape(batch: list[Prepared]) -> None:
    class Counting(Cut):
        def predict(self, prepared: Sequence[Prepared]) -> list[dict[str, Any]]:
            self.seen = len(prepared)
            return super().predict(prepared)

    baseline = Counting()
    assert len(Classical(baseline, TASK.baseline_columns).predict(batch[:1], 4)) == 1
    assert baseline.seen == 4


def test_devices_are_never_replaced() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "meta", "cpu:x"):
        with pytest.raises(DeviceError, match=f"device '{name}' is not one of"):
            resolve_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="device 'cuda' was asked for, but"):
            resolve_device("cuda")
    with pytest.raises(DeviceError, match="asked for"):
        resolve_device("cuda:63")


def test_bf16_answers_like_fp32(bundle: Bundle, batch: list[Prepared]) -> None:
    whole = load_predictor(bundle.path, task=TASK).predict(batch[:4])
    half = load_predictor(bundle.path, task=TASK, dtype="bf16").predict(batch[:4])
    for one, two in zip(whole, half, strict=True):
        assert one["class_name"] == two["class_name"]
        assert one["p_bright"] == pytest.approx(two["p_bright"], abs=0.01)
    assert whole != half, "bf16 was not used at all"
    with pytest.raises(ValueError, match="dtype 'fp8' is not one of fp32, bf16"):
        load_predictor(bundle.path, task=TASK, dtype="fp8")


def test_tensors_and_names() -> None:
    assert to_tensor(np.ones(2, ">f4")).dtype == torch.float32
    assert to_tensor(np.ones(2, np.uint8)).dtype == torch.int64
    assert to_tensor(np.ones(2, bool)).dtype == torch.bool
    with pytest.raises(TypeError, match="<U1 cannot enter a model"):
        to_tensor(np.array(["a"]))
    assert accepted(build(), ["mask", "note", "flux"]) == ["flux", "mask"]
    anything = torch.nn.Identity()
    anything.forward = lambda **inputs: inputs  # type: ignore[assignment]
    assert accepted(anything, ["b", "a"]) == ["a", "b"]
    assert stack([{"a": np.zeros(2)}, {"a": np.ones(2)}])["a"].shape == (2, 2)


def test_members_are_averaged(trained: Trained, batch: list[Prepared]) -> None:
    cpu = torch.device("cpu")
    one, two = (run_network(Network([m], cpu), batch, 4)["logits"] for m in trained.models)
    both = run_network(Network(trained.models, cpu), batch, 4)["logits"]
    assert both.shape == (12, 2)
    assert not np.array_equal(one, two), "the members are the same model"
    np.testing.assert_allclose(both, (one + two) / 2, rtol=1e-5)


def test_the_shipped_models_answer_without_the_libraries_of_training() -> None:
    """Their imports would double the time from the command to the first row."""
    heavy = ("transformers", "lightgbm", "sklearn", "timm", "torchvision", "scipy.optimize", "apache_beam")
    program = (
        "import sys\n"
        "from finetune import tasks\n"
        "from finetune.bundle import bundled\n"
        "from finetune.predict import load_predictor\n"
        "for name in tasks.names():\n"
        "    assert load_predictor(bundled(name)).task == name\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
