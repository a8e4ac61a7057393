"""How the control plane is served: few processes with threads, the application loaded once, before the fork."""

import os

bind = os.environ.get("BIND", "0.0.0.0:8000")
worker_class = "gthread"
workers = int(os.environ.get("WEB_WORKERS", "2"))
threads = int(os.environ.get("WEB_THREADS", "4"))
preload_app = True
http_parser = "fast"
control_socket_disable = True
graceful_timeout = 25
timeout = 60
keepalive = 5
max_requests = 100_000
max_requests_jitter = 10_000
limit_request_line = 4094
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108 - heartbeats of workers, not of devices
accesslog = None
