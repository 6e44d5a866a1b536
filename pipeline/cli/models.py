"""Commands about models: train and evaluate."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from pipeline.cli import EXIT_OK, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table
