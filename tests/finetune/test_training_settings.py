from __future__ import annotations

from finetune.training_options import read_settings


def test_values_are_json_or_text() -> None:
    pairs = [
        ("learning_rate", "1e-3"), ("bf16", "true"), ("method", "lora:4"), ("balance", '["origin"]'),
        ("lr_factors", '{"head": 2}'), ("start", "some/folder"), ("steps", "20"),
    ]  # fmt: skip
    assert read_settings(pairs) == {
        "learning_rate": 1e-3, "bf16": True, "method": "lora:4", "balance": ["origin"], "lr_factors": {"head": 2},
        "start": "some/folder", "steps": 20,
    }  # fmt: skip
