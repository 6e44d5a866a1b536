"""The plain encoder is transformers' BERT, and a token that does not count changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from finetune.bert import bert_encoder
from finetune.encoder import Encoder


@pytest.fixture(params=[1, 7], ids=["no_places", "places"])
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    ours, theirs = (make(16, 2, 4, 32, positions=request.param).eval() for make in (Encoder, bert_encoder))
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_it_is_bert(pair: tuple[nn.Module, nn.Module]) -> None:
    ours, theirs = pair
    x, mask = torch.randn(3, 7, 16), torch.tensor([[1] * 7, [1] * 3 + [0] * 4, [1, 0] * 3 + [1]])
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)
        assert torch.allclose(ours(x, mask), theirs(x, mask), atol=1e-6)
        assert not torch.allclose(ours(x, mask), ours(x), atol=1e-2)


def test_tokens_that_do_not_count_change_nothing(pair: tuple[nn.Module, nn.Module]) -> None:
    ours, _ = pair
    x, mask = torch.randn(2, 7, 16), torch.tensor([[1, 1, 1, 1, 0, 0, 0]] * 2)
    other = x.clone()
    other[:, 4:] = 100.0
    with torch.inference_mode():
        assert torch.equal(ours(x, mask)[:, :4], ours(other, mask)[:, :4])


def test_a_row_does_not_know_its_mates(pair: tuple[nn.Module, nn.Module]) -> None:
    """Also where the mates are whole and it is not: no shortcut for a mask of ones."""
    ours, _ = pair
    x = torch.randn(4, 7, 16)
    whole = torch.ones(4, 7)
    broken = whole.clone()
    broken[1:, 3:] = 0
    with torch.inference_mode():
        assert torch.equal(ours(x, whole)[0], ours(x, broken)[0])
