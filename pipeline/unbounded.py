"""The graph of a stream without an end: alerts of one object are gathered by night and answered together.

For engines that stream (Flink, Dataflow, Prism). It has no side input and no group-by-key, neither of which Flink takes
along its checkpoints, and every constant travels as an argument. An object's alerts wait in the state of its key. They
are answered a while after the first of them (``early``), so that nobody waits for the morning, and again when the night
is over by event time, or a late one has come. Rows land in files (``pipeline.landing``); a night is committed apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import PickleCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, CombiningValueStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows, IntervalWindow
from apache_beam.utils.timestamp import Duration, Timestamp

from pipeline import landing
from pipeline.broker import REGISTRY_USER, read_credentials
from pipeline.landing import SOURCE, Answer
from pipeline.schemas import Schemas
from transforms.attempt import Tallies, attempt
from transforms.infer import InferFn
from transforms.ingest import COUNTS, REJECTS, publish
from transforms.merge import merge_light_curves
from transforms.objects import expand
from transforms.predictor import Loader
from transforms.readers.alert_messages import Message, decode
from transforms.readers.alert_packets import load_packet
from transforms.readers.format import Entry
from transforms.records import FileRef, Item, LightCurve, Reject

DAY = 86_400
LAND_ROWS = 500  #: Answers that a worker holds before they become a file.
ARRIVED = "arrived"


class Alert(NamedTuple):
    """An alert, without its pictures.

    Parameters
    ----------
    place : str
        Topic, partition and offset of its message.
    curve : LightCurve
        What it knows of its object: some dozens of points, small enough to be grouped.
    """

    place: str
    curve: LightCurve


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """All that the graph of a stream is made from.

    Parameters
    ----------
    loaders : tuple of callable
        One for each task.
    landing : str
        Folder or URL that all workers see.
    measure_options : mapping
        Of the classical steps.
    version : str
        Of the package.
    schemas : str
        As in ``pipeline.schemas.Schemas``.
    credentials : str
        File or URL that every worker can read, for the registry's user; empty for none.
    noon : float
        Hour, UTC, at which one night ends and the next begins.
    lateness : float
        Seconds after the end of a night in which late alerts are still answered.
    early : float
        Seconds after an object's first alert in which it is answered for the first time; 0: at the end of the night.
    hints : mapping of str to str
        Beam's resource hints of the step that runs the models.
    """

    loaders: tuple[Loader, ...]
    landing: str
    measure_options: Mapping[str, Any] = field(default_factory=dict)
    version: str
    schemas: str = ""
    credentials: str = ""
    noon: float = 12.0
    lateness: float = 2 * DAY
    early: float = 30.0
    hints: Mapping[str, str] = field(default_factory=dict)


def stream_survey(messages: beam.PCollection, plan: StreamPlan) -> None:
    """Messages to landed answers.

    Parameters
    ----------
    messages : PCollection of Message
        With their own times.
    plan : StreamPlan
        How.
    """
    nights = FixedWindows(DAY, offset=3600 * plan.noon)
    windowed = messages | "Nights" >> beam.WindowInto(nights, allowed_lateness=Duration(plan.lateness))
    decode_step = DecodeFn(plan.schemas, plan.credentials)
    typed = beam.ParDo(decode_step).with_output_types(tuple[str, Alert])
    decoded = windowed | "Decode" >> typed.with_outputs(REJECTS, ARRIVED, main="alerts")
    gathered = decoded.alerts | "Gather" >> beam.ParDo(GatherFn(plan.early))
    step: Any = beam.ParDo(AnswerFn(plan.loaders, {}, plan.measure_options, {"package_version": plan.version}))
    if plan.hints:
        step = step.with_resource_hints(**plan.hints)
    answered = gathered | "Answer" >> step.with_outputs(REJECTS, COUNTS, main="rows")
    for name, answers in (
        ("Arrived", decoded[ARRIVED]), ("Refused", decoded[REJECTS]), ("Rows", answered.rows),
        ("Rejects", answered[REJECTS]),
    ):  # fmt: skip
        _ = answers | f"Land{name}" >> beam.ParDo(LandFn(plan.landing, plan.version))


def night_of_window(window: IntervalWindow) -> str:
    """The night of a window.

    Parameters
    ----------
    window : IntervalWindow
        From one noon to the next.

    Returns
    -------
    str
        Date of its evening.
    """
    begin = datetime.fromtimestamp(float(window.start), UTC)
    return (begin + timedelta(hours=12) - timedelta(hours=begin.hour, minutes=begin.minute)).date().isoformat()


class DecodeFn(beam.DoFn):
    """``Message`` to ``(object, Alert)``; what is none goes to the tag ``rejects``, what came in to ``arrived``.

    Parameters
    ----------
    schemas, credentials : str
        As in ``StreamPlan``: no secret travels with the graph.
    """

    def __init__(self, schemas: str, credentials: str) -> None:
        self.place, self.credentials = schemas, credentials

    def setup(self) -> None:
        """Know no schema yet."""
        settings = read_credentials(self.credentials) if self.credentials else {}
        self._schemas = Schemas(self.place, settings.get(REGISTRY_USER, ""))

    def process(self, message: Message) -> Iterator[Any]:
        """Decode one message.

        Parameters
        ----------
        message : Message
            The message.

        Yields
        ------
        tuple of (str, Alert) or TaggedOutput
            By object.
        """
        place = f"{message.topic}/{message.partition}/{message.offset}"
        yield beam.pvalue.TaggedOutput(ARRIVED, (None, (place,)))
        known = self._schemas.find([message.schema_id]) if message.schema_id is not None else {}
        where = {"source": SOURCE, "hdu": f"{message.topic}/{message.partition}", "row": message.offset}
        tallies = Tallies()
        for found in attempt("read", _load, tallies, message, known, where=where):
            if isinstance(found, Reject):
                yield beam.pvalue.TaggedOutput(REJECTS, (found, (place,)))
            else:
                yield found.object_id or place, Alert(place, found)
        publish(tallies)


def _load(message: Message, schemas: Mapping[int, str]) -> LightCurve:
    packet, schema = decode(message, schemas)
    curve = load_packet(packet, schema, SOURCE, message.offset)
    return replace(curve, hdu=f"{message.topic}/{message.partition}")


class GatherFn(beam.DoFn):
    """Alerts of one object in one night to all of them together, whenever they are to be answered.

    Parameters
    ----------
    early : float
        As in ``StreamPlan``.
    """

    ALERTS = BagStateSpec("alerts", PickleCoder())
    WAITING = CombiningValueStateSpec("waiting", combine_fn=sum)
    NIGHT_IS_OVER = TimerSpec("night_is_over", TimeDomain.WATERMARK)
    SOON = TimerSpec("soon", TimeDomain.REAL_TIME)

    def __init__(self, early: float) -> None:
        self.early = early

    def process(
        self,
        pair: tuple[str, Alert],
        window: Any = beam.DoFn.WindowParam,
        alerts: Any = beam.DoFn.StateParam(ALERTS),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        over: Any = beam.DoFn.TimerParam(NIGHT_IS_OVER),
        soon: Any = beam.DoFn.TimerParam(SOON),
    ) -> Iterable[Any]:
        """Keep one alert.

        Parameters
        ----------
        pair : tuple of (str, Alert)
            Of an object.
        window, alerts, waiting, over, soon
            Of this object and night.

        Returns
        -------
        iterable
            Nothing yet.
        """
        alerts.add(pair[1])
        over.set(window.max_timestamp())  # at the window's end itself the state would be cleared already
        if self.early and not waiting.read():
            soon.set(Timestamp(time.time() + self.early))
            waiting.add(1)
        return ()

    @on_timer(SOON)
    def answer_early(
        self, alerts: Any = beam.DoFn.StateParam(ALERTS), waiting: Any = beam.DoFn.StateParam(WAITING)
    ) -> Iterator[tuple[Alert, ...]]:
        """Answer while the night goes on.

        Parameters
        ----------
        alerts, waiting
            Of this object and night.

        Yields
        ------
        tuple of Alert
            All so far.
        """
        waiting.clear()
        yield from _together(alerts)

    @on_timer(NIGHT_IS_OVER)
    def answer(self, alerts: Any = beam.DoFn.StateParam(ALERTS)) -> Iterator[tuple[Alert, ...]]:
        """Answer at the end of the night, and for each late alert.

        Parameters
        ----------
        alerts
            Of this object and night.

        Yields
        ------
        tuple of Alert
            All of them.
        """
        yield from _together(alerts)


def _together(alerts: Any) -> Iterator[tuple[Alert, ...]]:
    """Each alert once, though it was delivered twice, in an order that does not depend on the delivery."""
    found = {alert.place: alert for alert in alerts.read()}
    if found:
        yield tuple(found[place] for place in sorted(found, key=_in_order))


def _in_order(place: str) -> tuple[str, int, int]:
    topic, partition, offset = place.rsplit("/", 2)
    return topic, int(partition), int(offset)


class AnswerFn(InferFn):
    """All alerts of an object to rows, each with the places of these alerts."""

    def process(
        self, alerts: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        """Take one object.

        Parameters
        ----------
        alerts : tuple of Alert
            Of one object.
        timestamp, window : object
            Of the element.

        Yields
        ------
        WindowedValue or TaggedOutput
            Rows and rejects that became ready meanwhile.
        """
        places = tuple(alert.place for alert in alerts)
        yield from self._take(alerts, (timestamp, (window,), places, night_of_window(window)))

    def _read(self, pair: tuple[Any, tuple[Any, ...]]) -> Iterator[Any]:
        alerts, context = pair
        last = alerts[-1].curve
        item = Item(file=FileRef(url=SOURCE, source=SOURCE), format="", hdu=last.hdu)
        load = partial(merge_light_curves, [alert.curve for alert in alerts])
        entry = Entry(last.row, load, last.object_id)
        for result in expand(item, self._models, self._reading, {}, self.measure_options, [entry]):
            yield result, context

    def _out(self, row: dict[str, Any] | Reject, context: tuple[Any, ...]) -> Any:
        _, _, places, night = context
        answer: Answer = (
            (row, places) if isinstance(row, Reject) else ({**row, **self.constants, "night": night}, places)
        )
        return self._placed(answer, isinstance(row, Reject), context)


class LandFn(beam.DoFn):
    """Answers to files, by night.

    Parameters
    ----------
    landing : str
        Folder or URL.
    version : str
        Of the package.
    """

    def __init__(self, landing: str, version: str) -> None:
        self.landing, self.version = landing, version

    def start_bundle(self) -> None:
        """Begin with empty buffers."""
        self._held: dict[str, list[Answer]] = {}

    def process(self, answer: Answer, window: Any = beam.DoFn.WindowParam) -> None:
        """Keep one answer; write those of its night where they are many.

        Parameters
        ----------
        answer : tuple
            A row, a reject or neither, and its alerts.
        window : IntervalWindow
            Of its night.
        """
        night = night_of_window(window)
        held = self._held.setdefault(night, [])
        held.append(answer)
        if len(held) >= LAND_ROWS:
            landing.write(self.landing, night, self._held.pop(night), self.version)

    def finish_bundle(self) -> None:
        """Write the rest."""
        for night, held in sorted(self._held.items()):
            landing.write(self.landing, night, held, self.version)
        self._held = {}
