"""A real S3 server: one Ceph node with its object gateway (Debian: radosgw, ceph-mon, ceph-osd), in memory."""

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dev.postgres import free_port
from tests.bundles.storage.tcp_proxy import wait_for_port
from tests.tools import need

# An idle machine needs 12 seconds; a busy one much longer.
START_SECONDS = 200
OSD_TRIES = 20
CONFIG = """
[global]
fsid={fsid}
mon_host=v1:127.0.0.1:{mon}
mon_initial_members=a
public_addr=127.0.0.1
cluster_addr=127.0.0.1
ms_bind_msgr2=false
auth_cluster_required=none
auth_service_required=none
auth_client_required=none
osd_pool_default_size=1
osd_pool_default_min_size=1
mon_allow_pool_size_one=true
mon_warn_on_pool_no_redundancy=false
osd_crush_chooseleaf_type=0
osd_pool_default_pg_num=1
osd_pool_default_pgp_num=1
osd_pool_default_pg_autoscale_mode=off
mon_max_pg_per_osd=1000
osd_objectstore=memstore
memstore_device_bytes=4294967296
osd_class_update_on_start=false
mon_data={home}/mon
osd_data={home}/osd
run_dir={home}
admin_socket={home}/$name.asok
pid_file={home}/$name.pid
log_file={home}/$name.log
mon_cluster_log_file={home}/cluster.log
crash_dir={home}
rgw_data={home}/rgw
rgw_frontends=beast endpoint=127.0.0.1:{port}
rgw_enable_usage_log=false
rgw_multipart_min_part_size=1024
"""


class Ceph:
    """The programs of one cluster; their data is in the directory `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.fsid = str(uuid.uuid4())
        self.mon_port = free_port()
        for name in ("mon", "osd", "rgw"):
            (home / name).mkdir(parents=True)
        self.config = home / "ceph.conf"
        self.config.write_text(CONFIG.format(home=home, fsid=self.fsid, mon=self.mon_port, port=self.port))

    def run(self, *arguments: str) -> str:
        """Run a command and return its output."""
        done = subprocess.run(
            [need(arguments[0]), "--conf", str(self.config), *arguments[1:]],
            capture_output=True, text=True, check=False, timeout=START_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-1000:]
        return done.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [need(arguments[0]), "--conf", str(self.config), "-f", *arguments[1:]]
        with (self.home / "output.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def running_osd(self) -> Iterator[None]:
        """Run the OSD. It exits with "wrong fsid" if the monitor is not ready yet; then it is started again."""
        for tries_left in reversed(range(OSD_TRIES)):
            with self.running("ceph-osd", "-i", "0") as process:
                try:
                    self.wait_for(" 1 up", "ceph", "osd", "stat", while_running=process)
                except AssertionError as error:
                    if tries_left:
                        continue
                    error.add_note((self.home / "osd.0.log").read_text()[-3000:])
                    raise
                yield
                return

    def wait_for(self, expected: str, *arguments: str, while_running: subprocess.Popen[bytes] | None = None) -> None:
        """Repeat the command until its output contains `expected`. The monitor does not respond at first."""
        deadline = time.monotonic() + START_SECONDS
        response = ""
        while expected not in response:
            assert time.monotonic() < deadline, response
            assert while_running is None or while_running.poll() is None, f"{while_running.args!r} has ended"
            time.sleep(0.2)
            with suppress(AssertionError):
                response = self.run(*arguments)


@contextmanager
def ceph(home: Path, access_key: str, secret_key: str) -> Iterator[int]:
    """Yield the port of the S3 server. Skip the test if its programs are not installed."""
    for program in ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool"):
        need(program)
    cluster = Ceph(home)
    monmap = str(home / "monmap")
    address = f"[v1:127.0.0.1:{cluster.mon_port}]"
    cluster.run("monmaptool", "--create", "--addv", "a", address, "--fsid", cluster.fsid, monmap)
    cluster.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
    with ExitStack() as stack:
        stack.enter_context(cluster.running("ceph-mon", "-i", "a"))
        cluster.wait_for("mon: 1", "ceph", "-s")
        name = str(uuid.uuid4())
        cluster.run("ceph", "osd", "new", name)
        cluster.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", name)
        stack.enter_context(cluster.running_osd())
        person = ["--uid", "kernex", "--display-name", "kernex"]
        key = ["--access-key", access_key, "--secret-key", secret_key]
        cluster.run("radosgw-admin", "user", "create", *person, *key)
        stack.enter_context(cluster.running("radosgw", "-n", "client.rgw"))
        wait_for_port(cluster.port, START_SECONDS)
        yield cluster.port
