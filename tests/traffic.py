"""Continuous requests from several threads while a test changes the server."""

import threading
import time
from collections.abc import Callable
from http import HTTPStatus

import requests

PATIENCE_SECONDS = 60

Sender = Callable[[], requests.Response]


class Traffic:
    """Sends several requests repeatedly, each in its own thread.

    `succeeded` counts successful responses, `deferred` those with status 503 and `Retry-After`. `lost` lists all other
    responses and connection errors.
    """

    def __init__(self, *senders: Sender) -> None:
        self.stopped = threading.Event()
        self.succeeded = 0
        self.deferred = 0
        self.lost: list[str] = []
        self.threads = [threading.Thread(target=self.send_repeatedly, args=[send]) for send in senders]

    def send_repeatedly(self, send: Sender) -> None:
        while not self.stopped.is_set():
            try:
                response = send()
            except requests.RequestException as error:
                self.lost.append(repr(error))
                continue
            if response.ok:
                self.succeeded += 1
            elif response.status_code == HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" in response.headers:
                self.deferred += 1
            else:
                self.lost.append(f"{response.request.url}: {response.status_code} {response.text[:200]}")

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def wait_for_responses(traffic: Traffic) -> None:
    """Wait until 50 more requests have succeeded."""
    target = traffic.succeeded + 50
    wait(traffic, lambda: traffic.succeeded >= target)


def wait(traffic: Traffic, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, (traffic.succeeded, traffic.deferred, traffic.lost[:3])
        time.sleep(0.02)
