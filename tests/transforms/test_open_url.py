from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from transforms.locations import local_path, open_url


@pytest.mark.parametrize("name", ["plain.csv", "j::k.csv", "zip::k.csv", "a[1]?*.csv", "e%20#1.csv"])
def test_a_path_is_a_path_whatever_it_contains(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"abc")
    assert local_path(str(path)) == str(path)
    for url in (str(path), f"file://{path}"):
        with open_url(url) as stream:
            assert stream.read() == b"abc"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("s3://b/k", None),
        ("zip://a::b.zip", None),
        ("simplecache::/tmp/x", None),
        ("j::k.csv", "j::k.csv"),
        ("a/b", "a/b"),
    ],
)
def test_a_url_or_a_chain_is_none(url: str, path: str | None) -> None:
    assert local_path(url) == path


def test_other_places_are_opened_by_fsspec() -> None:
    fsspec.filesystem("memory").pipe_file("/where/x", b"abc")
    with open_url("memory://where/x") as stream:
        assert stream.read() == b"abc"
