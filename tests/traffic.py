"""Continuous requests from several threads while a test changes the server."""

import threading
import time
from collections.abc import Callable
from http import HTTPStatus

import requests

PATIENCE_SECONDS = 60

Sender = Callable[[], requests.Response]


class Traffic:
    """Send each of several requests repeatedly, in a thread of its own.

    `answered` counts successes, and `put_off` responses of 503 with `Retry-After`. `lost` has all other responses and
    connection errors.
    """

    def __init__(self, *senders: Sender) -> None:
        self.is_over = threading.Event()
        self.answered = 0
        self.put_off = 0
        self.lost: list[str] = []
        self.threads = [threading.Thread(target=self.send_repeatedly, args=[send]) for send in senders]

    def send_repeatedly(self, send: Sender) -> None:
        while not self.is_over.is_set():
            try:
                response = send()
            except requests.RequestException as error:
                self.lost.append(repr(error))
                continue
            if response.ok:
                self.answered += 1
            elif response.status_code == HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" in response.headers:
                self.put_off += 1
            else:
                self.lost.append(f"{response.request.url}: {response.status_code} {response.text[:200]}")

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def wait_for_answers(traffic: Traffic) -> None:
    """Wait until 50 more requests have succeeded."""
    wanted = traffic.answered + 50
    wait(traffic, lambda: traffic.answered >= wanted)


def wait(traffic: Traffic, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, (traffic.answered, traffic.put_off, traffic.lost[:3])
        time.sleep(0.02)
