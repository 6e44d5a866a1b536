"""Laws of the graph, read off its proto and tried: no record crosses a shuffle, no timers, nothing unlabelled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.survey import Plan, survey
from tests import toy_night
from transforms.records import FileRef, Identity, Item, LightCurve

GROUP_BY_KEY = "beam:transform:group_by_key:v1"
PAR_DO = "beam:transform:pardo:v1"


pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[beam.Pipeline]:
    plan = Plan(
        files=(FileRef(url="a", source="a"),),
        models=toy_night.MODELS,
        night="2026-11-24",
        run_id="2026-11-24-000000000000",
        version="0",
        staging=str(tmp_path),
        order=3,
    )
    pipeline = beam.Pipeline(runner="FnApiRunner")
    survey(pipeline, plan)
    yield pipeline
    shutil.rmtree(pipeline.local_tempdir)  # Beam removes it only where the graph is run


def test_only_references_and_small_rows_are_grouped(pipeline: beam.Pipeline) -> None:
    proto = pipeline.to_runner_api()
    transforms = proto.components.transforms
    grouped = {t.unique_name for t in transforms.values() if t.spec.urn == GROUP_BY_KEY}
    assert grouped, "the graph has no shuffle at all"
    homes = (
        "Ingest/SpreadFiles/",
        "Infer/SpreadItems/",
        "Stage/GroupByPixel",
        "List/",
        "Files/",
        "Items/",
        "Unopened/",
        "IngestedSums/",  # pairs of a name and a number
        "InferredSums/",
        "ListCounts/",
    )
    assert [name for name in sorted(grouped) if not name.startswith(homes)] == []
    names = {t.unique_name for t in transforms.values()}
    step = next(n for n in names if n.endswith("Infer/Predict"))
    assert "Infer/SpreadItems" in names
    assert not any("Predict" in name and "GroupByKey" in name for name in names), step


def test_what_enters_a_shuffle_is_typed_as_a_reference(pipeline: beam.Pipeline) -> None:
    seen: dict[str, object] = {}

    class Look(beam.pipeline.PipelineVisitor):
        def visit_transform(self, node: object) -> None:
            self.enter_composite_transform(node)

        def enter_composite_transform(self, node: object) -> None:
            if isinstance(node.transform, beam.Reshuffle):
                seen[node.full_label] = node.inputs[0].element_type

    pipeline.visit(Look())
    assert seen == {"Ingest/SpreadFiles": FileRef, "Infer/SpreadItems": Item}
    assert not any(issubclass(kind, Identity) for kind in seen.values())


def test_there_are_no_timers_and_no_state(pipeline: beam.Pipeline) -> None:
    for transform in pipeline.to_runner_api().components.transforms.values():
        if transform.spec.urn == PAR_DO:
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            assert not payload.timer_family_specs, transform.unique_name
            assert not payload.state_specs, transform.unique_name


def test_a_night_passes_where_no_record_can_be_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof by trial: a record that crossed any boundary between workers would have to be pickled."""

    def refuse(self: LightCurve, protocol: object = None) -> None:
        raise TypeError("a record was pickled: it crossed a shuffle")

    monkeypatch.setattr(LightCurve, "__reduce_ex__", refuse)
    night = toy_night.write_night(tmp_path / "night", files=2)
    (result,) = toy_night.run(night, output=tmp_path / "cat")
    assert result.rows == {"toy": 41}
