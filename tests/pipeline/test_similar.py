"""Similar objects, unknown ones, the queue for labels and taught classes, from a catalog with embeddings."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from finetune.bundle import bundled, load_bundle
from finetune.bundle_writing import derive_bundle
from finetune.registry import Registry
from pipeline.cli import main
from pipeline.commit import commit
from pipeline.embedded import read_named, read_rows, vectors
from pipeline.hats import CatalogError
from pipeline.similar import get_task, model_of_files, named
from pipeline.sources import Inputs
from pipeline.tables import table_columns
from pipeline.verify import verify
from tests.pipeline.nights import file, stage, stages
from transforms.flags import bits
from transforms.simulate.night import Size, write_night

TABLE = "variable_star"
DIGEST = load_bundle(bundled(TABLE)).digest[:16]
WIDTH = load_bundle(bundled(TABLE)).space().mean.size  # type: ignore[union-attr]


def row(name: str, embedding: np.ndarray | None, night: str, **more: Any) -> dict[str, Any]:
    return {
        "object_id": name, "ra": 40.0 + 0.01 * len(name), "dec": 1.0, "night": night, "mjd": 61000.0,
        "time_scale": "utc", "flags": 0, "source": "lc.csv", "hdu": "", "row": int(name.split("-")[1]), "task": TABLE,
        "model_digest": DIGEST, "package_version": "0.1", "embedding": embedding, "novelty": 0.5,
        "best_variable_class": "rrab", "best_p_max": 0.9, **{f"best_p_{c}": 0.1 for c in ("rrab", "rrc")}, **more,
    }  # fmt: skip


def make(root: Path, nights: dict[str, Sequence[dict[str, Any]]], classes: Sequence[str] = ()) -> str:
    columns = table_columns(TABLE, classes)
    for number, (night, made) in enumerate(nights.items()):
        run_id = f"{night}-{number:012x}"
        fields = {"night": night, "versions": {TABLE: "v1"}, "order": 3, "stages": stages(1, len(made), 0)}
        staged = stage(str(root), run_id, made, columns=columns, table=TABLE)
        commit(str(root), run_id, staged, fields, Inputs((file("lc.csv"),)))
    assert verify(str(root)) == []
    return str(root)


def cloud(middle: np.ndarray, n: int, seed: int, size: float = 0.01) -> np.ndarray:
    return (middle + np.random.default_rng(seed).normal(0, size, (n, WIDTH))).astype(np.float32)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty usual objects in two nights, twelve of one unknown kind, six of another, one loner, one without."""
    mean = load_bundle(bundled(TABLE)).space().mean  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    usual = [row(f"usual-{i}", v, "2026-11-24") for i, v in enumerate(cloud(mean, 20, 1, 0.3))]
    odd, rare, lone = (mean + 6 * rng.normal(size=WIDTH) for _ in range(3))
    novel = {"flags": bits("NOVEL"), "novelty": 3.0}
    second = [row(f"usual-{i + 20}", v, "2026-11-25") for i, v in enumerate(cloud(mean, 20, 2, 0.3))]
    second += [row(f"odd-{i + 100}", v, "2026-11-25", **novel) for i, v in enumerate(cloud(odd, 12, 3))]
    second += [row(f"rare-{i + 200}", v, "2026-11-25", **novel) for i, v in enumerate(cloud(rare, 6, 4))]
    second += [row("lone-300", cloud(lone, 1, 5)[0], "2026-11-25", **novel), row("bare-400", None, "2026-11-25")]
    second[-3]["taught_class"] = "known by now"
    root = tmp_path_factory.mktemp("embedded") / "catalog"
    return make(root, {"2026-11-24": usual, "2026-11-25": second})


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_only_rows_with_an_embedding_are_read(catalog: str) -> None:
    parts = list(read_rows(catalog, TABLE, ("object_id", "embedding")))
    assert sum(part.num_rows for part in parts) == 20 + 20 + 12 + 6 + 1
    assert {vectors(part).shape[1] for part in parts} == {WIDTH}
    everything = read_rows(catalog, TABLE, ("object_id",), embedded=False, night="2026-11-25")
    assert sum(part.num_rows for part in everything) == 40


def test_similar_finds_its_own_kind_nearest_first(catalog: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = said(capsys, "similar", catalog, TABLE, "--ids", "odd-104", "-n", "11")
    assert {one["object_id"] for one in rows} == {f"odd-{i}" for i in range(100, 112)} - {"odd-104"}
    far = [one["distance"] for one in rows]
    assert far == sorted(far)
    two = said(capsys, "similar", catalog, TABLE, "--ids", "odd-100", "rare-200", "-n", "3")
    assert [one["object_id"].split("-")[0] for one in two] == ["odd"] * 3 + ["rare"] * 3
    assert not said(capsys, "similar", catalog, TABLE, "--ids", "odd-100", "-n", "3", "--night", "2026-11-25")[0][
        "object_id"
    ].startswith("usual")


def test_objects_of_several_models_are_asked_for_of_the_latest(tmp_path: Path) -> None:
    mean = load_bundle(bundled(TABLE)).space().mean  # type: ignore[union-attr]
    one, two = ([row(f"x-{i}", v, n, model_digest=d) for i, v in enumerate(cloud(mean, 4, s))]
                for n, d, s in (("2026-11-24", "a" * 16, 1), ("2026-11-25", "b" * 16, 2)))  # fmt: skip
    two = two[:3]
    root = make(tmp_path / "catalog", {"2026-11-24": one, "2026-11-25": two})
    found, digest = named(root, TABLE, ["x-2", "x-0"])
    assert digest == "b" * 16
    assert [r["object_id"] for r in found] == ["x-2", "x-0"]
    assert named(root, TABLE, ["x-2", "x-3"])[1] == "a" * 16, "only that one has made rows of both"
    assert named(root, TABLE, ["x-2"], "a" * 16)[0][0]["night"] == "2026-11-24"
    with pytest.raises(CatalogError, match=r"1 of 2 objects have no row .* of model b+: 'x-3'"):
        named(root, TABLE, ["x-2", "x-3"], "b" * 16)
    some: list[str] = []
    (part,) = read_named(root, TABLE, ["x-3"], some)
    assert part.num_rows == 1, "of all others only the name is read"
    assert len(some) == 3


def test_files_are_embedded_by_the_model_in_production(tmp_path: Path) -> None:
    shipped = load_bundle(bundled(TABLE))
    assert model_of_files(TABLE).digest == shipped.digest
    registry = Registry(str(tmp_path / "models"))
    assert model_of_files(TABLE, registry=str(tmp_path / "models")).digest == shipped.digest, "none is in production"
    other = derive_bundle(shipped, tmp_path / "other", created_by="a test")
    registry.add(other)
    registry.promote(TABLE, other.digest, {})
    assert model_of_files(TABLE, registry=str(tmp_path / "models")).digest == other.digest
    assert model_of_files(TABLE, str(bundled(TABLE)), str(tmp_path / "models")).digest == shipped.digest


def test_a_map_of_the_table(catalog: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (told,) = said(capsys, "map", catalog, TABLE, "--output", str(tmp_path / "map"))
    assert (told["objects"], told["novel"]) == (59, 19)
    assert told["values"] == {"rrab": 59}
    assert told["taught"] == {"known by now": 1}
    assert 0.1 < told["variance"] < 1
    assert (tmp_path / "map" / "map.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "map" / "index.html").read_text()
    assert "59 objects of variable_star" in page
    assert "http" not in page.replace(" arXiv", "")
    (night,) = said(capsys, "map", catalog, TABLE, "--output", str(tmp_path / "n"), "--night", "2026-11-24",
                    "--column", "best_p_max")  # fmt: skip
    assert night["objects"] == 20
    assert "values" not in night


@pytest.mark.parametrize("column", ["novelty", "taught_class", "model_digest"])
def test_a_map_is_coloured_by_any_column(
    catalog: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, column: str
) -> None:
    (told,) = said(capsys, "map", catalog, TABLE, "--output", str(tmp_path / "map"), "--column", column)
    assert (told["objects"], told["novel"]) == (59, 19)
    assert told.get("values", {}).get("no answer", 0) == (58 if column == "taught_class" else 0)


def test_unknown_objects_are_grouped(catalog: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "unknown.csv"
    rows = said(capsys, "unknown", catalog, TABLE, "--smallest", "4", "--output", str(output))
    kinds = {one["object_id"]: one["group"] for one in rows}
    assert {kinds[f"odd-{i}"] for i in range(100, 112)} == {0}
    assert {kinds[f"rare-{i}"] for i in range(200, 205)} == {1}, "one of six is known by now"
    assert kinds["lone-300"] == -1
    assert len(rows) == 18
    with output.open() as stream:
        assert [one["object_id"] for one in csv.DictReader(stream)] == [one["object_id"] for one in rows]


def test_the_queue_can_be_filled_in(catalog: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "queue.csv"
    rows = said(capsys, "label-queue", catalog, TABLE, "-n", "3", "--output", str(output))
    assert {one["object_id"].split("-")[0] for one in rows} == {"odd", "rare", "lone"}, "none is like another"
    with output.open() as stream:
        first = next(csv.DictReader(stream))
    assert first["variable_class"] == ""
    assert first["source"] == "lc.csv"


def test_classes_that_were_added_count_and_are_described(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = get_task(TABLE).classes
    zero = {f"best_p_{name}": 0.0 for name in own} | {"best_variable_class": "nova"}
    torn = row("torn-1", None, "2026-11-24", **{**zero, "best_p_nova": 0.5, "best_p_rrab": 0.5})
    sure = [row(f"sure-{i}", None, "2026-11-24", **{**zero, "best_p_nova": 1.0 - 0.01 * i}) for i in range(2, 12)]
    root = make(tmp_path / "catalog", {"2026-11-24": [*sure, torn]}, (*own, "nova"))
    (first,) = said(capsys, "label-queue", root, TABLE, "-n", "1")
    assert first["object_id"] == "torn-1"
    assert first["reasons"] == "unsure"
    (there,) = said(capsys, "describe", TABLE, "--catalog", root)
    (plain,) = said(capsys, "describe", TABLE)
    new = {c["name"] for c in there["columns"]} - {c["name"] for c in plain["columns"]}
    assert new == {"p_nova", "baseline_p_nova", "best_p_nova"}
    (refused,) = said(capsys, "describe", "rejects", "--catalog", root)
    assert refused["table"] == "rejects"
    assert main(["describe", TABLE, "--catalog", str(tmp_path)]) == 2
    assert "no run was committed" in capsys.readouterr().err


def test_a_class_is_taught_and_shown_from_the_next_run_on(
    catalog: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ids = [f"odd-{i}" for i in range(100, 105)]
    registry = tmp_path / "registry"
    arguments = ["teach", TABLE, "--class", "odd", "--catalog", catalog, "--registry", str(registry), "--ids", *ids]
    (told,) = said(capsys, *arguments)
    assert told["examples"] == ids
    assert told["training_objects_inside"] <= 0.01
    taught = Registry(str(registry)).bundle(TABLE)
    assert taught.digest[:16] == told["model"]["digest"]
    space = taught.space()
    assert space is not None
    part = pa.concat_tables(read_rows(catalog, TABLE, ("object_id", "embedding"), night="2026-11-25"))
    names, (_, far) = part["object_id"].to_pylist(), space.nearest_taught(vectors(part))
    inside = {name for name, one in zip(names, far, strict=True) if one < 1}
    assert {f"odd-{i}" for i in range(100, 112)} - inside == set()
    assert not any(name.startswith(("usual", "rare", "lone")) for name in inside)
    # the embeddings are of the model that was in production before: the next lesson has to wait for a run
    assert main(arguments) == 2
    assert "run the night again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["similar", "CATALOG", TABLE], "either --ids"),
        (["similar", "CATALOG", TABLE, "--ids", "nobody"], "1 of 1 objects have no row in 'variable_star'"),
        (["similar", "CATALOG", "nothing", "--ids", "x"], "nothing"),
        (["similar", "CATALOG", "stellar_parameters", "--ids", "x"], "nightcat run --embeddings"),
        (["unknown", "CATALOG", "galaxy_morphology"], "nightcat run --embeddings"),
        (["map", "CATALOG", "galaxy_morphology", "--output", "OUT"], "nightcat run --embeddings"),
        (["map", "CATALOG", TABLE, "--output", "OUT", "--column", "colour"], "has no column 'colour'"),
        (["map", "CATALOG", TABLE, "--output", "OUT", "--column", "embedding"], "a list gives no colour"),
        (["unknown", "CATALOG", TABLE, "--night", "2026-11-26"], "no run of night 2026-11-26"),
        (["teach", TABLE, "--class", "odd", "--catalog", "CATALOG", "--ids", "odd-100"], "--output, or a --registry"),
        (["teach", TABLE, "--class", "rrab", "--catalog", "CATALOG", "--output", "OUT", "--ids", "odd-100"], "already"),
        (["teach", TABLE, "--class", "odd", "--catalog", "CATALOG", "--output", "OUT", "--ids", "odd-100"], "too few"),
    ],
)
def test_what_cannot_be_done_is_said(
    catalog: str, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("NIGHTCAT_REGISTRY", raising=False)
    places = {"CATALOG": catalog, "OUT": str(tmp_path / "out")}
    assert main([places.get(one, one) for one in arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_night_with_embeddings_from_files_to_similar_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = Size(fields=0, stamps=0, spectra=0, light_curves=12, broken=False)
    write_night(tmp_path / "in", 3, size)
    root = str(tmp_path / "catalog")
    night = ["run", "--input", str(tmp_path / "in" / "night"), "--output", root, "--night", "2026-11-24", "--quiet"]
    assert main([*night, "--tasks", TABLE, "--workers", "1", "--embeddings"]) == 0
    assert verify(root) == []
    part = pa.concat_tables(read_rows(root, TABLE, ("object_id", "source", "novelty", "embedding")))
    found = vectors(part)
    assert found.shape == (12, WIDTH)
    assert np.isfinite(found).all()
    assert all(value is not None for value in part["novelty"].to_pylist())
    name = part["object_id"][0].as_py()
    capsys.readouterr()
    alike = said(capsys, "similar", root, TABLE, "--ids", name, "-n", "3")
    from_file = said(capsys, "similar", root, TABLE, "--input", str(tmp_path / "in" / "night"), "-n", "1")
    assert len(alike) == 3
    assert max(one["distance"] for one in from_file) < 0.01, "each object is most like itself"
    # the same night without embeddings is another result: it is done again, and they are gone
    assert main([*night, "--tasks", TABLE, "--workers", "1"]) == 0
    assert list(read_rows(root, TABLE, ("object_id", "embedding"))) == []
