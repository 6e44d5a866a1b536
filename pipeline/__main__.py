"""``python -m pipeline`` reaches the same door as ``nightcat``."""

import sys

from pipeline.cli import main

sys.exit(main())
