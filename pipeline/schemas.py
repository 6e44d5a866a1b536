"""Schemas that messages name by number: from a schema registry, or a folder of ``NUMBER.avsc``."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field

from transforms.store import Store

TIMEOUT = 10.0  #: Seconds.


class RegistryError(OSError):
    """The registry does not answer: nothing is said about the schema, and it is asked again."""


@dataclass(slots=True)
class Schemas:
    """Where schemas come from; each is asked for once.

    Parameters
    ----------
    place : str
        ``http(s)://HOST[:PORT]`` of a registry that speaks Confluent's protocol, a folder with ``NUMBER.avsc``, or
        empty for none.
    user : str
        ``USER:PASSWORD`` for the registry, where it asks for them.
    """

    place: str
    user: str = field(default="", repr=False)
    _known: dict[int, str | None] = field(default_factory=dict)

    def find(self, numbers: Iterable[int]) -> dict[int, str]:
        """Schemas by number.

        Parameters
        ----------
        numbers : iterable of int
            That messages name.

        Returns
        -------
        dict of int to str
            As JSON; a number that the registry does not know is left out, and asked for again the next time.

        Raises
        ------
        RegistryError
            Where it does not answer.
        """
        wanted = sorted(set(numbers))
        for number in wanted:
            if self._known.get(number) is None:
                self._known[number] = self._ask(number)
        return {number: text for number in wanted if (text := self._known[number]) is not None}

    def _ask(self, number: int) -> str | None:
        if not self.place:
            return None
        if not self.place.startswith(("http://", "https://")):
            return self._of_folder(number)
        url = f"{self.place.rstrip('/')}/schemas/ids/{number}"
        accept = {"Accept": "application/vnd.schemaregistry.v1+json"}
        request = urllib.request.Request(url, headers=accept)  # noqa: S310 - http or https, as was looked at above
        if self.user:
            request.add_header("Authorization", f"Basic {base64.b64encode(self.user.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                return _schema(json.load(answer)["schema"])
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise RegistryError(f"the schema registry answers {error.code} {error.reason} to {url}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RegistryError(f"the schema registry does not answer: {url}: {error}") from error

    def _of_folder(self, number: int) -> str | None:
        store = Store(self.place)
        if not store.exists(""):
            raise RegistryError(f"the folder of schemas does not exist: {self.place!r}")
        name = f"{number}.avsc"
        try:
            return _schema(store.read(name).decode()) if store.exists(name) else None
        except ValueError as error:
            raise RegistryError(f"{self.place}/{name} is no schema: {error}") from error


def _schema(text: str) -> str:
    json.loads(text)
    return text
