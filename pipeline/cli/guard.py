"""What can go wrong with a catalog and its inputs, as a sentence and an exit code: no command ends in a traceback."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.cli import EXIT_OUTPUT, EXIT_USAGE
from pipeline.cli.display import fail


def guarded(catalog: str, night: str | None, work: Callable[[], int], unforeseen: int = EXIT_USAGE) -> int:
    """Do the work of a command on a catalog.

    Parameters
    ----------
    catalog : str
        Root of the catalog.
    night : str or None
        That the user named.
    work : callable
        ``work() -> exit code``.
    unforeseen : int
        Exit code where a file can be neither read nor written and nothing of ours has said so.

    Returns
    -------
    int
        Exit code: that of the work; 2 for an option, an input or a catalog that is at fault; 4 where the catalog
        cannot be written.
    """
    import pyarrow as pa

    from pipeline.hats import CatalogError
    from pipeline.options import ConfigError
    from pipeline.sources import InputError, is_night
    from transforms.locations import LocationError, location_fault
    from transforms.store import OutputError

    faults = [fault] if (fault := location_fault(catalog)) else []
    if night is not None and not is_night(night):
        faults.append(f"--night {night!r} is not a date like 2026-11-24")
    if faults:
        return fail(faults, EXIT_USAGE)
    try:
        return work()
    except (ConfigError, CatalogError) as error:
        return fail(error.faults, EXIT_USAGE)
    except (InputError, LocationError) as error:
        return fail(str(error), EXIT_USAGE)
    except pa.ArrowException as error:
        return fail(f"{catalog}: a file is damaged, and nightcat verify tells which: {error}", EXIT_USAGE)
    except OutputError as error:
        return fail(str(error), EXIT_OUTPUT)
    except OSError as error:
        sentence = str(error) if error.strerror is None else f"{error.filename or catalog}: {error.strerror}"
        return fail(sentence, unforeseen)
