"""How well a run used its device: shares and means, from the counts that its graph has made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEVICE = "device."
_PRECISION = "objects_"


def device_use(counts: Mapping[str, int]) -> dict[str, Any]:
    """Say how well the device was used.

    Parameters
    ----------
    counts : mapping of str to int
        From ``pipeline.survey.counted``; names without ``device.`` are left out.

    Returns
    -------
    dict
        ``idle_share``: of the time that the inference step was at work in all worker processes, the part in which no
        forward ran for it. ``queue_depth``: prepared objects that waited when a batch was begun, in the mean; near zero
        the reading is what takes the time, near its bound the model is. ``batch_fill``: objects over the places that
        batches had. ``batches``; ``objects`` by precision; ``halved``: times that a batch did not fit into the memory;
        ``unfit``: objects that did not fit even alone. Empty where no model ran.
    """
    found = {name.removeprefix(DEVICE): number for name, number in counts.items() if name.startswith(DEVICE)}
    if not found.get("batches") and not found.get("halved"):
        return {}
    return {
        "idle_share": round(max(1 - found.get("busy_us", 0) / max(found.get("wall_us", 0), 1), 0.0), 3),
        "queue_depth": round(found.get("queued", 0) / max(found.get("calls", 0), 1), 1),
        "batch_fill": round(found.get("objects", 0) / max(found.get("slots", 0), 1), 3),
        "batches": found.get("batches", 0),
        "objects": {
            name.removeprefix(_PRECISION): number for name, number in found.items() if name.startswith(_PRECISION)
        },
        "halved": found.get("halved", 0),
        "unfit": found.get("unfit", 0),
    }
