"""Import Beam without the libraries that it imports only because it finds them, and that no graph of ours uses.

pandas and MongoDB's client cost a tenth of the start of a night, even where they never see an object of it.
"""

from __future__ import annotations

import logging
import sys

#: What Beam tries to import and goes on without: type hints of pandas objects, and the connector to MongoDB.
UNUSED = ("pandas", "bson", "pymongo")


def import_beam() -> None:
    """Import Beam before a module of ours does; what it went without can be imported by anybody afterwards.

    Where one of these libraries is there already, Beam takes it: it costs nothing then.
    """
    hidden = [name for name in UNUSED if name not in sys.modules]
    logger = logging.getLogger("apache_beam.io.mongodbio")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that bson is not there, which is what we want
    try:
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment] # Python's own way to say "cannot be imported"
        import apache_beam  # noqa: F401
    finally:
        logger.setLevel(level)
        for name in hidden:
            sys.modules.pop(name, None)
