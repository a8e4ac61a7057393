"""Requests without a pause while a test does something to the server."""

import threading
from collections.abc import Callable
from http import HTTPStatus

import requests

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
