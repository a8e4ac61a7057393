"""gunicorn's configuration: a few processes with threads. The application is loaded once, before the fork."""

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

sys.path.insert(0, str(Path(__file__).resolve().parent))

from foundation.environment import Environment
from operations.monitoring import multiprocess_dir

env = Environment()
logging.captureWarnings(True)  # so that warnings use the log's format
OWNS_METRICS_DIR = multiprocess_dir.VARIABLE not in os.environ
if OWNS_METRICS_DIR:
    os.environ[multiprocess_dir.VARIABLE] = str(multiprocess_dir.make_directory())

# These imports read the variable that was just set.
from foundation.logs import FORMATTERS  # noqa: E402
from operations.database.preflight import refuse_ungranted  # noqa: E402
from operations.monitoring.dead_workers import add_up  # noqa: E402

bind = env.text("BIND", "0.0.0.0:8000")
worker_class = "gthread"
workers = env.number("WEB_WORKERS", 2, minimum=1, maximum=64)
threads = env.number("WEB_THREADS", 4, minimum=1, maximum=64)
preload_app = True
# Use the C parser if it is installed, as in the image. It has no wheels, and a laptop may lack a compiler.
http_parser = "auto"
control_socket_disable = True
graceful_timeout = 25
timeout = 60
keepalive = 5
max_requests = 100_000
max_requests_jitter = 10_000
limit_request_line = 4094
# The setting TRUSTED_PROXY decides whether X-Forwarded-* is trusted, so gunicorn does not evaluate it.
forwarded_allow_ips = ""
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - heartbeats of workers, not of devices
accesslog = None


class logger_class(Logger):  # type: ignore[misc]  # noqa: N801 - gunicorn's name for this setting
    """Format gunicorn's log lines as Kernex formats its own."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(FORMATTERS[env.choice("LOG_FORMAT", "text", list(FORMATTERS))]())


def on_starting(server: Any) -> None:
    """Exit with an explanation if the database's role lacks a privilege."""
    refuse_ungranted()


def child_exit(server: Any, worker: Any) -> None:
    add_up(alive={pid for pid in server.WORKERS if pid != worker.pid})


def on_exit(server: Any) -> None:
    if OWNS_METRICS_DIR:
        shutil.rmtree(os.environ[multiprocess_dir.VARIABLE], ignore_errors=True)
