from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from pipeline.sources import InputError, Inputs, by_night, find_files, fingerprint
from transforms.records import FileRef


@pytest.fixture
def night(tmp_path: Path) -> Path:
    root = tmp_path / "2026-11-24"
    for name, text in {"a.fits": "1", "sub/b c ü.csv": "22", "sub/deep/d.txt": "", ".hidden": "x"}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(inputs: Inputs) -> list[str]:
    return [file.source for file in inputs.files]


def test_a_folder_is_walked_and_names_are_relative(night: Path) -> None:
    found = find_files([str(night)])
    assert names(found) == ["a.fits", "sub/b c ü.csv", "sub/deep/d.txt"]
    assert [file.size for file in found.files] == [1, 2, 0]


def test_globs_lists_and_urls(night: Path, tmp_path: Path) -> None:
    assert names(find_files([f"{night}/**/*.csv"])) == ["sub/b c ü.csv"]
    listing = tmp_path / "list.txt"
    listing.write_text(f"# a comment\n{night}/a.fits\n\n{night}/gone.fits\n", encoding="utf-8")
    found = find_files([f"@{listing}"])
    assert names(found) == ["a.fits"]
    assert [(r.stage, r.error) for r in found.rejects] == [("ingest", "FileNotFoundError")]
    with fsspec.open("memory://m/x/y.txt", "wb") as stream:
        stream.write(b"abc")
    found = fingerprint(find_files(["memory://m"]))
    assert names(found) == ["x/y.txt"]
    assert found.files[0].url.startswith("memory://")
    assert found.files[0].digest.startswith("ba7816bf")


@pytest.mark.parametrize("spec", ["nowhere", "nowhere/*.fits", "@nowhere.txt"])
def test_a_missing_input_is_an_error_that_names_it(spec: str, tmp_path: Path) -> None:
    full = f"@{tmp_path}/nowhere.txt" if spec.startswith("@") else f"{tmp_path}/{spec}"
    with pytest.raises(InputError, match="nowhere"):
        find_files([full])


def test_order_and_repetition_of_inputs_do_not_matter(night: Path) -> None:
    assert find_files([str(night), f"{night}/a.fits"]).files == find_files([f"{night}/a.fits", str(night)]).files


def test_equal_relative_names_are_told_apart(night: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.fits").write_text("different")
    sources = names(find_files([str(night), str(other)]))
    assert len(set(sources)) == len(sources) == 4
    assert sum(source.endswith("/a.fits") for source in sources) == 2


def test_a_dangling_link_and_a_vanished_file_are_rejects(night: Path) -> None:
    (night / "dangling").symlink_to(night / "nothing")
    (night / "loop").symlink_to(night)
    found = find_files([str(night)])
    assert [r.source for r in found.rejects] == ["dangling"]
    assert len(found.files) == 3
    os.remove(night / "a.fits")
    found = fingerprint(found)
    assert {r.source for r in found.rejects} == {"dangling", "a.fits"}
    assert len(found.files) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what it may not")
def test_an_unreadable_folder_is_a_reject(night: Path) -> None:
    (night / "sub").chmod(0)
    try:
        assert [r.source for r in find_files([str(night)]).rejects] == ["sub"]
    finally:
        (night / "sub").chmod(0o755)


def test_same_bytes_twice_are_processed_once(night: Path) -> None:
    (night / "copy.fits").write_text("1")
    found = fingerprint(find_files([str(night)]))
    assert "copy.fits" not in names(found)
    (copy,) = found.rejects
    assert "same bytes as a.fits" in copy.reason


def test_nights_from_folder_names(night: Path) -> None:
    assert list(by_night(find_files([str(night)]), None)) == ["2026-11-24"]
    assert list(by_night(find_files([str(night)]), "2026-01-01")) == ["2026-01-01"]
    with pytest.raises(InputError, match="no --night"):
        by_night(
            find_files([str(night.parent / "other")]) if (night.parent / "other").exists() else _plain(night), None
        )


def test_a_folder_that_only_looks_like_a_date_is_no_night(tmp_path: Path) -> None:
    path = tmp_path / "2026-11-24" / "2026-99-99" / "x"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    nights = by_night(find_files([str(tmp_path)]), None)
    assert {night: names(inputs) for night, inputs in nights.items()} == {"2026-11-24": ["2026-99-99/x"]}
    with pytest.raises(InputError, match="no --night"):
        by_night(Inputs((FileRef(url="/2026-99-99/2026-W01-1/x", source="x"),)), None)


def _plain(night: Path) -> Inputs:
    folder = night.parent / "plain"
    folder.mkdir()
    (folder / "x").write_text("x")
    return find_files([str(folder)])
