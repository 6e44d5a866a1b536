"""Commands about models: train and evaluate."""

from __future__ import annotations


