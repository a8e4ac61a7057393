"""A TCP proxy between two programs that a test can cut, block and measure."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 64 * 1024


class TcpProxy:
    """Forwards connections to the port `target`. `up` and `down` count the bytes from and to the clients."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]
        self.up = self.down = 0
        self.is_cut = False
        self.is_open = threading.Event()
        self.is_open.set()
        self.cut_at = float("inf")
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def block(self) -> None:
        """Stop forwarding and keep connections open: clients hang until `restore`."""
        self.is_open.clear()

    def cut(self) -> None:
        """Close all connections, and refuse new ones until `restore`."""
        self.is_cut = True
        self.drop()

    def cut_after(self, count: int) -> None:
        """Cut all connections after `count` more bytes in both directions together."""
        self.cut_at = self.up + self.down + count

    def drop(self) -> None:
        """Close all connections; new ones are forwarded."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Forward connections and bytes again."""
        self.is_cut = False
        self.cut_at = float("inf")
        self.is_open.set()

    def close(self) -> None:
        self.cut()
        self.restore()
        self.server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            if self.is_cut:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self.target)) as upstream:
            self._connections |= {client, upstream}
            downstream = threading.Thread(target=self._pass, args=(upstream, client, False), daemon=True)
            downstream.start()
            self._pass(client, upstream, True)
            downstream.join()
            self._connections -= {client, upstream}

    def _pass(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                self.is_open.wait(60)
                if is_up:
                    self.up += len(chunk)
                else:
                    self.down += len(chunk)
                target.sendall(chunk)
                if self.up + self.down > self.cut_at:
                    self.cut()
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(port: int) -> Iterator[TcpProxy]:
    proxy = TcpProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


def wait_for_port(port: int, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.05)
