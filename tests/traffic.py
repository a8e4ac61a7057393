"""Requests without a pause while a test does something to the server."""

import threading
import time
from collections.abc import Callable
from http import HTTPStatus

import requests

PATIENCE_SECONDS = 60

Ask = Callable[[], requests.Response]


class Traffic:
    """One thread for each way of asking.

    `answered` counts successes, `put_off` those answered by 503 with `Retry-After`; whatever else came back, or did not
    come back, stands in `lost`.
    """

    def __init__(self, *asks: Ask) -> None:
        self.is_over = threading.Event()
        self.answered = 0
        self.put_off = 0
        self.lost: list[str] = []
        self.threads = [threading.Thread(target=self.keep_asking, args=[ask]) for ask in asks]

    def keep_asking(self, ask: Ask) -> None:
        while not self.is_over.is_set():
            try:
                answer = ask()
            except requests.RequestException as error:
                self.lost.append(repr(error))
                continue
            if answer.ok:
                self.answered += 1
            elif answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" in answer.headers:
                self.put_off += 1
            else:
                self.lost.append(f"{answer.request.url}: {answer.status_code} {answer.text[:200]}")

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def wait_for_answers(traffic: Traffic) -> None:
    """Until 50 more requests have succeeded."""
    wanted = traffic.answered + 50
    wait(traffic, lambda: traffic.answered >= wanted)


def wait(traffic: Traffic, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, (traffic.answered, traffic.put_off, traffic.lost[:3])
        time.sleep(0.02)
