"""EfficientNet-Lite0 is timm's, with the packaged weights."""

from __future__ import annotations

import pytest
import timm
import torch

from finetune.backbones import lite0


@pytest.mark.parametrize("shape", [(96, 96), (67, 90)])
def test_it_is_the_network_of_timm(shape: tuple[int, int]) -> None:
    theirs, ours = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval(), lite0()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(images)
        assert float(expected.std()) > 0.5, "with random weights the scores would hardly differ"
        torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5)
