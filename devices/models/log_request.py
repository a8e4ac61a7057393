"""Log requests: an operator asks for a device's logs, and the device sends them in numbered batches.

    requested ──► collecting ──► complete
        │  └──────────┼────────────▲ (the first batch is the last)
        │             │
        ├─────────────┼──► failed     the command failed or is unknown to the agent, or the device was decommissioned
        └─────────────┴──► expired    `expires_at` passed

`requested` and `collecting` are unfinished; a device has at most one unfinished log request. The text is stored in
rows of at most 64 KiB as it arrives, without secrets, and deleted with its request after `LOG_KEEP_DAYS`.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Func, Q
from django.db.models.functions import Now
from django.db.models.lookups import LessThanOrEqual
from django.utils import timezone

from devices.models.command import Command
from devices.models.command_payloads import SendLogsPayload
from devices.models.device import Device
from devices.models.device_state import DeviceState
from foundation.errors import Conflict, IllegalTransition, TooLarge, Unavailable
from foundation.events.models import record_event
from foundation.logs import without_secrets
from foundation.state_machine import StatefulModel, StatefulQuerySet, Transitions

MIN_LOG_SIZE = 1024
MAX_LOG_SIZE = 4 * 1024 * 1024
MAX_BATCH_SIZE = 64 * 1024
# Limits the rows of one request, however small its batches are.
MAX_BATCHES = 1000
MAX_REASON_LENGTH = 500
# How many batches are read from the database at once when the text is sent.
BATCHES_READ_AT_ONCE = 8


class LogRequestState(models.TextChoices):
    REQUESTED = "requested", "requested"
    COLLECTING = "collecting", "collecting"
    COMPLETE = "complete", "complete"
    FAILED = "failed", "failed"
    EXPIRED = "expired", "expired"


LOG_REQUEST_TRANSITIONS = Transitions({
    LogRequestState.REQUESTED: {
        LogRequestState.COLLECTING, LogRequestState.COMPLETE, LogRequestState.FAILED, LogRequestState.EXPIRED,
    },
    LogRequestState.COLLECTING: {LogRequestState.COMPLETE, LogRequestState.FAILED, LogRequestState.EXPIRED},
    LogRequestState.COMPLETE: set(),
    LogRequestState.FAILED: set(),
    LogRequestState.EXPIRED: set(),
})  # fmt: skip
UNFINISHED = (LogRequestState.REQUESTED, LogRequestState.COLLECTING)


class LogRequestQuerySet(StatefulQuerySet["LogRequest"]):
    def unfinished(self) -> "LogRequestQuerySet":
        return self.in_states(*UNFINISHED)


@dataclass(frozen=True, slots=True)
class LogBatchContent:
    """One batch as a device sends it. `number` counts from 1, `source` names the log that `text` is a part of."""

    number: int
    source: str
    text: str
    is_last: bool


class LogRequest(StatefulModel):
    """One request for a device's logs, and what has arrived of them."""

    transitions = LOG_REQUEST_TRANSITIONS

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+", db_index=False)
    command = models.ForeignKey(Command, null=True, on_delete=models.SET_NULL, related_name="+")
    state = models.CharField(max_length=16, choices=LogRequestState, default=LogRequestState.REQUESTED)
    # Why the request failed or expired, for people.
    reason = models.CharField(max_length=MAX_REASON_LENGTH, default="", blank=True)
    # In bytes of UTF-8, as the device sent them.
    max_size = models.PositiveIntegerField()
    size = models.PositiveIntegerField(default=0)
    batches = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    # The actor, as events name it: `operator:NAME`.
    created_by = models.CharField(max_length=160)
    expires_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    objects = LogRequestQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["device"], name="one_unfinished_log_request_per_device", condition=Q(state__in=UNFINISHED)
            )
        ]
        indexes = [
            # The log requests of one device, newest first.
            models.Index(fields=["device", "-created_at"], name="log_request_device"),
            # The scheduler looks for unfinished requests that expired or failed.
            models.Index(fields=["expires_at"], name="log_request_unfinished", condition=Q(state__in=UNFINISHED)),
            # Retention deletes by age.
            models.Index(fields=["finished_at"], name="log_request_finished", condition=Q(finished_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"logs of {self.created_at:%Y-%m-%d %H:%M}"

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        """Return the time of the end, for transitions to a final state."""
        return {"finished_at": Now()} if cls.transitions.is_final(target) else {}

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED

    @classmethod
    def open_for(cls, device: Device, *, actor: str, max_size: int | None = None) -> "OpenedLogRequest":
        """Ask a device for its logs, or return the request that is unfinished.

        `max_size` is in bytes; the default is the setting `LOG_MAX_SIZE`.

        Raises:
            IllegalTransition: `wrong_state`, if the device is not accepted.
            Unavailable: `busy`, if other log requests for this device begin and finish meanwhile.
        """
        if device.state != DeviceState.ACCEPTED:
            raise IllegalTransition(
                "wrong_state", f"A device that is {device.state} cannot send logs.", state=str(device.state)
            )
        expires_at = timezone.now() + timedelta(seconds=settings.LOG_REQUEST_EXPIRY_SECONDS)
        for _ in range(3):
            request = cls(
                device=device, max_size=max_size or settings.LOG_MAX_SIZE, created_by=actor, expires_at=expires_at
            )
            if request._insert():
                return OpenedLogRequest(request, is_new=True)
            unfinished = cls.objects.unfinished().filter(device=device).first()
            if unfinished is not None:
                return OpenedLogRequest(unfinished, is_new=False)
        raise Unavailable("busy", "Another log request for this device just ended: try again.", 1)

    def _insert(self) -> bool:
        """Insert this request with its command. False if the device has an unfinished one."""
        with transaction.atomic():
            LogRequest.objects.bulk_create([self], ignore_conflicts=True)
            if not LogRequest.objects.filter(pk=self.pk).exists():
                return False
            command = Command.objects.queue(self.device_id, SendLogsPayload(self.pk, self.max_size))
            LogRequest.objects.filter(pk=self.pk).update(command=command)
            record_event(
                "device.logs_requested", "The device was asked for its logs.",
                actor=self.created_by, device=self.device_id, log_request=str(self.pk),
            )  # fmt: skip
        self.refresh_from_db()
        return True

    def add_batch(self, batch: LogBatchContent) -> int:
        """Store one batch, and complete the request with the last one. Return the number of the next batch.

        Idempotent: a batch that is stored already changes nothing. The request's row is locked meanwhile, so that two
        copies of one batch are stored once.

        Raises:
            Conflict: `log_request_ended`, or `batch_gap` with `next_batch` if earlier batches are missing.
            TooLarge: `too_large`, if the text exceeds the request's `max_size` or there are too many batches.
        """
        with transaction.atomic():
            locked = LogRequest.objects.select_for_update().get(pk=self.pk)
            if batch.number <= locked.batches:
                return batch.number + 1
            locked._require_next(batch)
            size = locked._size_with(batch)
            LogBatch.objects.create(
                log_request=locked, number=batch.number, source=batch.source, text=without_secrets(batch.text)
            )
            locked._advance(batch, size)
        return batch.number + 1

    def _require_next(self, batch: LogBatchContent) -> None:
        if self.is_finished:
            raise Conflict("log_request_ended", f"This log request is {self.state}: it accepts no more batches.")
        if batch.number != self.batches + 1:
            next_batch = self.batches + 1
            raise Conflict("batch_gap", "Batches are missing; continue with `next_batch`.", next_batch=next_batch)

    def _size_with(self, batch: LogBatchContent) -> int:
        size = self.size + len(batch.text.encode())
        if size > self.max_size:
            raise TooLarge("too_large", f"The operator asked for at most {self.max_size} bytes of logs.")
        if batch.number > MAX_BATCHES:
            raise TooLarge("too_large", f"A log request accepts at most {MAX_BATCHES} batches: send larger ones.")
        return size

    def _advance(self, batch: LogBatchContent, size: int) -> None:
        if batch.is_last:
            self.transition_to(LogRequestState.COMPLETE, batches=batch.number, size=size)
            record_event(
                "device.logs_collected", "The device sent its logs.",
                actor="device", device=self.device_id, log_request=str(self.pk),
            )  # fmt: skip
        elif self.state == LogRequestState.REQUESTED:
            self.transition_to(LogRequestState.COLLECTING, batches=batch.number, size=size)
        else:
            LogRequest.objects.filter(pk=self.pk).update(batches=batch.number, size=size)

    def end(self, state: LogRequestState, reason: str, actor: str) -> bool:
        """Fail or expire an unfinished request and withdraw its command. False if it finished meanwhile."""
        with transaction.atomic():
            if not self.transition_to(state, reason=reason[:MAX_REASON_LENGTH]):
                return False
            if self.command_id is not None:
                Command.objects.filter(pk=self.command_id).withdraw()
            record_event(
                f"device.logs_{state}", f"Collecting the device's logs ended: {reason}",
                actor=actor, device=self.device_id, log_request=str(self.pk),
            )  # fmt: skip
        return True

    def text(self) -> Iterator[str]:
        """Yield what has arrived so far, batch by batch. A line `==> SOURCE <==` introduces each source."""
        last_source, last_number, at_line_start = "", 0, True
        while batches := LogBatch.objects.filter(log_request=self, number__gt=last_number)[:BATCHES_READ_AT_ONCE]:
            for batch in batches:
                if batch.source != last_source:
                    heading = f"==> {batch.source} <==\n"
                    yield heading if at_line_start else "\n" + heading
                    at_line_start = True
                if batch.text:
                    yield batch.text
                    at_line_start = batch.text.endswith("\n")
                last_source, last_number = batch.source, batch.number


@dataclass(frozen=True, slots=True)
class OpenedLogRequest:
    """The unfinished log request of a device. `is_new` is False if it was already open."""

    log_request: LogRequest
    is_new: bool


_SIZE = Func(F("text"), function="octet_length", output_field=models.IntegerField())


class LogBatch(models.Model):
    """One batch of a log request: at most 64 KiB of text from one source."""

    id = models.BigAutoField(primary_key=True)
    log_request = models.ForeignKey(LogRequest, on_delete=models.CASCADE, related_name="+", db_index=False)
    number = models.PositiveIntegerField()
    source = models.CharField(max_length=140)
    text = models.TextField()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["log_request", "number"], name="log_batch_once"),
            # Twice what a device may send, because hiding a secret can lengthen a text a little.
            models.CheckConstraint(condition=LessThanOrEqual(_SIZE, 2 * MAX_BATCH_SIZE), name="log_batch_is_bounded"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.number}"
