from __future__ import annotations

import errno
import functools
import http.server
import logging
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.listing import RUNS
from pipeline.sources import InputError, Inputs, find_files, fingerprint
from transforms.locations import open_url

FILES = {"a.fits": b"one", "sub/b.fits": b"second", "sub/c.csv": b"3"}


@pytest.fixture
def night(tmp_path: Path) -> Path:
    root = tmp_path / "n"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(night: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(night))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def archive(night: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as packed:
        for name in FILES:
            packed.write(night / name, name)
    return tmp_path / "z.zip"


def sources(inputs: Inputs) -> dict[str, bytes]:
    """What each file holds when its URL is opened, by its name."""
    assert inputs.rejects == ()
    found = {}
    for file in fingerprint(inputs).files:
        with open_url(file.url) as stream:
            found[file.source] = stream.read()
        assert file.size == len(found[file.source])
    return found


@pytest.mark.parametrize("spec", ["", "/"])
def test_a_listing_of_a_web_server_is_walked(server: str, spec: str) -> None:
    assert sources(find_files([server + spec])) == FILES


@pytest.mark.parametrize("spec", ["/a.fits", "/*.fits"])
def test_single_urls_and_globs_of_a_web_server(server: str, spec: str) -> None:
    found = find_files([server + spec])
    assert [file.url for file in found.files] == [f"{server}/a.fits"]
    assert sources(found) == {"a.fits": b"one"}


def test_what_a_web_server_does_not_have_is_told(server: str) -> None:
    with pytest.raises(InputError, match=r"does not exist: .*/gone.fits"):
        find_files([f"{server}/gone.fits"])


def test_a_web_server_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match=r"127.0.0.1:1/a.fits"):
        find_files(["http://127.0.0.1:1/a.fits"])


@pytest.mark.parametrize(
    ("inside", "wanted"),
    [
        ("zip://", FILES),
        ("zip", FILES),
        ("zip://*.fits", {"a.fits": b"one"}),
        ("zip://sub", {"b.fits": b"second", "c.csv": b"3"}),
        ("zip://sub/c.csv", {"c.csv": b"3"}),
        ("simplecache::zip://*.fits", {"a.fits": b"one"}),
    ],
)
def test_archives_keep_their_chain(
    inside: str, wanted: dict[str, bytes], archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive.parent)
    found = find_files([f"{inside}::{archive.name}"])
    monkeypatch.chdir("/")  # a worker, or a replay, starts anywhere
    assert sources(found) == wanted
    assert all(file.url.endswith(f"::{archive}") for file in found.files)


def test_an_archive_behind_a_web_server(server: str, night: Path, archive: Path) -> None:
    archive.rename(night / "z.zip")
    found = find_files([f"zip://sub/*.csv::simplecache::{server}/z.zip"])
    assert sources(found) == {"c.csv": b"3"}
    assert found.files[0].url == f"zip://sub/c.csv::simplecache::{server}/z.zip"


def test_local_names_that_look_like_chains_or_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["j::k.csv", "zip::x", "a[1].csv", "b*.csv", "c?.csv", "d#1.csv", "e%20.csv", "h i.csv"]
    (tmp_path / "n").mkdir()
    for name in names:
        (tmp_path / "n" / name).write_text(name)
    wanted = {name: name.encode() for name in names}
    assert sources(find_files([str(tmp_path / "n")])) == wanted
    assert sources(find_files([f"{tmp_path}/n/{name}" for name in names])) == wanted
    monkeypatch.chdir(tmp_path / "n")
    assert sources(find_files(["j::k.csv"])) == sources(find_files(["j::*"])) == {"j::k.csv": b"j::k.csv"}


def test_a_name_that_is_not_utf8_is_one_reject_and_not_the_end(night: Path) -> None:
    name = os.fsencode(night) + b"/caf\xe9.csv"
    Path(os.fsdecode(name)).write_text("x")
    for spec in (str(night), os.fsdecode(name)):
        (reject,) = find_files([spec]).rejects
        assert (reject.source, reject.stage) == ("caf\\xe9.csv", "ingest")
        assert "is not UTF-8" in reject.reason
        f"{reject.source}{reject.url}{reject.reason}".encode()
    assert len(find_files([str(night)]).files) == 3


def test_catalogs_are_no_input_and_that_is_said_once(night: Path, caplog: pytest.LogCaptureFixture) -> None:
    (night / "sub" / "cat" / RUNS).mkdir(parents=True)
    (night / "sub" / "cat" / "data.csv").write_text("row")
    with caplog.at_level(logging.WARNING, "nightcat"):
        assert set(sources(find_files([str(night), f"{night}/**", f"{night}/sub"]))) >= set(FILES)
    assert [r.getMessage() for r in caplog.records] == [f"{night}/sub/cat is a catalog of nightcat, not input: skipped"]
    assert all("cat/" not in file.url for file in find_files([f"{night}/**/*.csv"]).files)
    with pytest.raises(InputError, match="is a catalog"):
        find_files([f"{night}/sub/cat"])


def test_catalogs_elsewhere_are_no_input(caplog: pytest.LogCaptureFixture) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.csv", f"cat/{RUNS}/x.json", "cat/toy/data.csv"):
        memory.pipe_file(f"/with_catalog/{name}", b"x")
    with caplog.at_level(logging.WARNING, "nightcat"):
        assert [file.source for file in find_files(["memory://with_catalog"]).files] == ["a.csv"]
    assert "memory://with_catalog/cat is a catalog" in caplog.text


@pytest.mark.parametrize("spec", ["closed/a.csv", "closed"])
def test_a_closed_folder_is_not_said_to_be_missing(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: object, *args: object, **more: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(InputError, match=f"cannot be read: .*{spec}.*Permission denied"):
        find_files([str(tmp_path / spec)])


@pytest.mark.parametrize("spec", ["{folder}/a**.fits", "memory://somewhere/a**.fits"])
def test_a_pattern_that_is_none_is_told(spec: str, tmp_path: Path) -> None:
    pattern = spec.format(folder=tmp_path)
    with pytest.raises(InputError, match=r"cannot be read: .*a\*\*\.fits': .*entire path component"):
        find_files([pattern])
    lines = tmp_path / "files.txt"
    lines.write_text(f"{pattern}\n", encoding="utf-8")
    (reject,) = find_files([f"@{lines}"]).rejects
    assert reject.url == pattern
    assert "entire path component" in reject.reason


def test_lists_that_are_no_lists(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        find_files([f"@{tmp_path}"])
    (tmp_path / "bin").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match=r"not UTF-8 text: .*/bin"):
        find_files([f"@{tmp_path}/bin"])
    (tmp_path / "dos").write_bytes(b"\xef\xbb\xbf" + f"{tmp_path}/bin\r\n\r\n".encode())
    assert [file.source for file in find_files([f"@{tmp_path}/dos"]).files] == ["bin"]
