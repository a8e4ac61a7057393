"""Exports of devices as CSV or JSON lines, streamed in constant memory.

Each batch goes through the next devices of the whole table in the order of their ids, and writes those that the export
selects. This bounds the time of a statement for any query and any fleet. A database cursor is not used: a pool of
transactions could not keep it, and a slow client would keep its transaction open.

An export occupies a web server's thread until the last byte is sent. A quarter of a process's threads may export, and
a client that does not receive a batch within a minute is disconnected.
"""

import csv
import io
import json
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from devices.models import Device, DeviceQuerySet
from devices.queries.filtering import limited_time
from devices.serializers import ExportedDevice, ExportFormat
from foundation.errors import Unavailable

# How many devices one batch goes through.
BATCH = 500
SLOTS = threading.BoundedSemaphore(max(1, settings.WEB_THREADS // 4))
RETRY_AFTER_SECONDS = 10
STALLED_SECONDS = 60.0
# A spreadsheet evaluates a cell that begins so as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

# One exported device, as `ExportedDevice` represents it.
Row = Mapping[str, object]


CONTENT_TYPES = {ExportFormat.CSV: "text/csv; charset=utf-8", ExportFormat.JSON_LINES: "application/x-ndjson"}


class DeviceExport:
    """The bytes of an export. It occupies a slot until it is closed.

    The first batch is read at once, so that a query that is too slow is refused before the response begins.

    Raises:
        BadRequest: `query_too_slow`.
        Unavailable: `busy`, if this process sends as many exports as it may.
    """

    def __init__(self, devices: DeviceQuerySet, export_format: ExportFormat) -> None:
        self.is_open = False
        if not SLOTS.acquire(blocking=False):
            raise Unavailable("busy", "Too many exports at the moment; try again.", RETRY_AFTER_SECONDS)
        self.is_open = True
        self.chunks = _chunks(devices, _csv if export_format is ExportFormat.CSV else _json_lines, timezone.now())
        try:
            with limited_time():
                self.first = next(self.chunks)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        yield self.first
        yield from self.chunks

    def close(self) -> None:
        """End the work and release the slot. Idempotent."""
        if self.is_open:
            self.is_open = False
            self.chunks.close()
            SLOTS.release()

    def __del__(self) -> None:
        # The server does not close a response that never reached it, because something failed after the view.
        self.close()


def export(request: HttpRequest, devices: DeviceQuerySet, export_format: ExportFormat) -> StreamingHttpResponse:
    """Return a response with these devices, for a browser to save. Raises as `DeviceExport` does."""
    stream = DeviceExport(devices, export_format)
    connection = request.META.get("gunicorn.socket")
    if isinstance(connection, socket.socket):
        connection.settimeout(STALLED_SECONDS)
    response = StreamingHttpResponse(stream, content_type=CONTENT_TYPES[export_format])
    name = f"devices-{timezone.now():%Y%m%dT%H%M%SZ}.{export_format.value}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def _chunks(
    devices: DeviceQuerySet, write: Callable[[list[Row], Sequence[str], bool], str], now: datetime
) -> Generator[bytes, None, None]:
    """Yield the text of each batch that has some, and that of the first one in any case."""
    serializer = ExportedDevice(context={"now": now})
    columns = list(serializer.fields)
    for number, batch in enumerate(_batches(devices)):
        text = write([serializer.to_representation(device) for device in batch], columns, number == 0)
        if text or number == 0:
            yield text.encode()


def _batches(devices: DeviceQuerySet) -> Iterator[list[Device]]:
    """Yield the devices in the order of their ids, those of the next `BATCH` of the fleet at a time."""
    selected = devices.select_related("group").defer("hardware", "attributes", "metrics").order_by("pk")
    after = UUID(int=0)
    while True:
        following = Device.objects.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)
        last = following[BATCH - 1 : BATCH].first()
        batch = selected.filter(pk__gt=after)
        yield list(batch if last is None else batch.filter(pk__lte=last))
        if last is None:
            return
        after = last


def _json_lines(rows: list[Row], columns: Sequence[str], is_first: bool) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def _csv(rows: list[Row], columns: Sequence[str], is_first: bool) -> str:
    """Return lines of CSV, the first one with the names of the columns."""
    text = io.StringIO()
    writer = csv.writer(text)
    if is_first:
        writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    """Return a value as one cell. A text that a spreadsheet would evaluate gets an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return " ".join(f"{product}@{bundle.get('version', '')}" for product, bundle in sorted(value.items()))
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
