"""Labelled simulated spectra as survey records, as several instruments see them."""

from __future__ import annotations

from finetune.task import Example

INSTRUMENTS = ("lamost", "linear", "sdss")


def simulate(n: int, seed: int) -> list[Example]:
    """Draw stars and observe them.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Of everything.

    Returns
    -------
    list of Example
        Raw records with labels ``teff``, ``logg``, ``fe_h``, the instruments in turn; a group is a template star.
    """
    from transforms.simulate.spectra import simulate_spectra  # its splines take a second to import: not for the survey

    shares = [simulate_spectra(len(range(k, n, len(INSTRUMENTS))), seed, tool) for k, tool in enumerate(INSTRUMENTS)]
    turns = [shares[number % len(INSTRUMENTS)][number // len(INSTRUMENTS)] for number in range(n)]
    names = ("teff", "logg", "fe_h")
    return [
        Example(record=star.spectrum, labels={k: star.truth[k] for k in names}, group=star.group, origin="simulated")
        for star in turns
    ]
