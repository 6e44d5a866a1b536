from __future__ import annotations

from typing import Any

import pytest

from pipeline.locations import member_url
from transforms.locations import LocationError, file_system, location_fault


@pytest.mark.parametrize("url", ["", "a/b", "/a::b", "file:///a", "memory://m", "http://h/x", "zip://a::b.zip"])
def test_what_can_be_opened_has_no_fault(url: str) -> None:
    assert location_fault(url) == ""


@pytest.mark.parametrize("url", ["foo://x", "zip://a::foo://b.zip"])
def test_a_protocol_that_nobody_knows_is_named_with_its_url(url: str) -> None:
    assert repr(url) in location_fault(url)
    assert "foo" in location_fault(url)
    with pytest.raises(LocationError, match="foo"):
        file_system(url)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(protocol: str) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    assert location_fault("s3://b/k") == "'s3://b/k' cannot be opened: Install s3fs to access S3"


class Elsewhere:
    """A file system whose ``unstrip_protocol`` loses the host, as those of ftp and sftp do."""

    def unstrip_protocol(self, name: str) -> str:
        return name if "://" in name else f"lost://{name}"


@pytest.mark.parametrize(
    ("spec", "path", "name", "wanted"),
    [
        ("ftp://u@host:21/a/b", "/a/b", "/a/b/c.fits", "ftp://u@host:21/a/b/c.fits"),
        ("sftp://host/a/", "/a", "/a/c.fits", "sftp://host/a/c.fits"),
        ("ftp://host", "/", "/c.fits", "ftp://host/c.fits"),
        ("ftp://host/", "/", "/c.fits", "ftp://host/c.fits"),
        ("s3://b/k/*.fits", "b/k/*.fits", "b/k/c.fits", "s3://b/k/c.fits"),
        ("http://h/d/", "http://h/d/", "http://h/d/c.fits", "http://h/d/c.fits"),
        ("github://org:repo@sha/p", "p", "p/c.fits", "github://org:repo@sha/p/c.fits"),
        ("zip://d::memory://z.zip", "d", "d/c.fits", "zip://d/c.fits::memory://z.zip"),
        ("memory://m", "/m", "/m/c.fits", "memory://m/c.fits"),
        ("abfs://c@acct.example/n/", "c/n", "c/n/d/e.fits", "abfs://c@acct.example/n/d/e.fits"),
        ("abfs://c@acct.example/n/*.fits", "c/n/*.fits", "c/n/e.fits", "abfs://c@acct.example/n/e.fits"),
        ("abfs://c@acct.example/n/e.fits", "c/n/e.fits", "c/n/e.fits", "abfs://c@acct.example/n/e.fits"),
        ("odd://x", "y", "z/e.fits", "lost://z/e.fits"),
    ],
)
def test_full_urls_keep_host_and_chain(spec: str, path: str, name: str, wanted: str) -> None:
    assert member_url(spec, Elsewhere(), path, name) == wanted
