"""One S3 server per worker; each test has its own bucket and a connection to it that can be cut."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from django.core.files.storage import storages
from django.test import Client
from pytest_django.fixtures import Settings

from bundles.storage import s3_client
from bundles.storage.s3_client import COMMON, Bucket
from dev.postgres import free_port
from tests.bundles.publisher import Publisher
from tests.bundles.storage.ceph import ceph
from tests.bundles.storage.tcp_proxy import TcpProxy, proxy_to, wait_for_port
from tests.bundles.storage.uploader import Uploader
from tests.devices.actors import device, make_signing
from tests.factories import make_token, make_user
from tests.live import ROOT

__all__ = ["device", "make_signing"]

KEY, SECRET = "AKKERNEX", secrets.token_hex(16)
REGION = "us-east-1"


@dataclass
class RemoteBucket:
    """A bucket, the proxy to it, and a client that bypasses the proxy."""

    name: str
    proxy: TcpProxy
    client: Any

    @property
    def options(self) -> dict[str, Any]:
        """The storage options that the settings derive from `environment`."""
        return {
            "bucket_name": self.name, "endpoint_url": self.proxy.url, "region_name": REGION,
            "access_key": KEY, "secret_key": SECRET,
        }  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {
            "STORAGE_BUCKET": self.name, "STORAGE_ENDPOINT_URL": self.proxy.url, "STORAGE_REGION": REGION,
            "STORAGE_ACCESS_KEY": KEY, "STORAGE_SECRET_KEY": SECRET,
        }  # fmt: skip

    def object_keys(self) -> list[str]:
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def unfinished_uploads(self) -> list[str]:
        """Return the keys of multipart uploads that are neither complete nor aborted."""
        return [entry["Key"] for entry in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])]

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content


def client_of(port: int) -> Any:
    return boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name=REGION, config=COMMON,
        aws_access_key_id=KEY, aws_secret_access_key=SECRET,
    )  # fmt: skip


@contextmanager
def moto(directory: Path) -> Iterator[int]:
    """Run moto, a fake S3 server from PyPI. Yield its port."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "S3_UPLOAD_PART_MIN_SIZE": "1024", "TMPDIR": str(directory)}
    command = [sys.executable, "-m", "tests.bundles.storage.s3_server", str(port), KEY, SECRET]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_for_port(port)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session", params=["moto", pytest.param("ceph", marks=pytest.mark.long)])
def s3_port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of moto, and in long runs also of a real server (Ceph)."""
    directory = tmp_path_factory.mktemp(request.param)
    with moto(directory) if request.param == "moto" else ceph(directory, KEY, SECRET) as port:
        yield port


@pytest.fixture
def remote_bucket(s3_port: int) -> Iterator[RemoteBucket]:
    """An empty bucket."""
    client = client_of(s3_port)
    name = f"kx-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=name)
    with proxy_to(s3_port) as proxy:
        yield RemoteBucket(name, proxy, client)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not mistake a busy test machine for storage that hangs."""
    monkeypatch.setattr(s3_client, "PATIENCE_SECONDS", 30.0)


def use_bucket(settings: Settings, options: dict[str, Any]) -> Bucket:
    """Keep bundles in the bucket of these options."""
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": "bundles.storage.s3_client.Bucket", "OPTIONS": options}
    }
    return cast(Bucket, storages["default"])


@pytest.fixture
def bucket(remote_bucket: RemoteBucket, settings: Settings, tmp_path: Path) -> Bucket:
    """The bucket in which the control plane keeps its bundles."""
    settings.STORAGE_DIR = tmp_path / "storage"
    return use_bucket(settings, remote_bucket.options)


@pytest.fixture
def publisher(db: None, client: Client, bucket: Bucket) -> Uploader:
    return Uploader(Publisher(client, make_token(make_user("alice"), "publisher")))
