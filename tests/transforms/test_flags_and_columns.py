from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.columns import FLOAT32, IDENTITY, PROVENANCE, REJECTS, Column, unique
from transforms.flags import NAMES, REGISTRY, bits, decode


def test_bits_and_names_are_unique_and_fit_int64() -> None:
    assert len({flag.bit for flag in REGISTRY}) == len({flag.name for flag in REGISTRY}) == len(REGISTRY)
    assert all(0 <= flag.bit <= 62 for flag in REGISTRY)
    assert all(flag.sentence.endswith(".") and flag.name.isupper() for flag in REGISTRY)


@given(st.sets(st.sampled_from(sorted(NAMES))))
def test_decode_undoes_bits(names: set[str]) -> None:
    assert set(decode(bits(*names))) == names


def test_unknown_bit_is_named_not_lost() -> None:
    free = next(bit for bit in range(63) if bit not in {flag.bit for flag in REGISTRY})
    assert decode(1 << free) == (f"BIT_{free}",)
    with pytest.raises(KeyError):
        bits("NO_SUCH_FLAG")


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [("Teff", FLOAT32, "x"), ("npix", FLOAT32, "x"), ("a", "float16", "x"), ("a", FLOAT32, " ")],
)
def test_bad_columns_are_refused(name: str, kind: str, text: str) -> None:
    with pytest.raises(ValueError, match=name):
        Column(name, kind, "", "", text)


def test_common_columns_are_unique() -> None:
    unique((*IDENTITY, *PROVENANCE))
    unique(REJECTS)
    with pytest.raises(ValueError, match="twice"):
        unique((*REJECTS, REJECTS[0]))
