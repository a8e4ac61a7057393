"""The device's Ed25519 key: generated on the device, stored only there, never replaced."""

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.atomic_files import read_limited, sync_directory
from agent.errors import BrokenState
from agent.server.signing import SignedRequest, UnsignedRequest, key_text, sign

FILE = "identity.key"
MAX_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    """The key pair of this device. The `repr` of the private key does not reveal it."""

    private_key: Ed25519PrivateKey
    public_key: str

    def sign(self, request: UnsignedRequest, *, created: int, sequence: int | None = None) -> SignedRequest:
        """Sign a request with this device's key; see `agent.server.signing.sign`."""
        return sign(self.private_key.sign, self.public_key, request, created=created, sequence=sequence)


def load_or_create(state_dir: Path) -> Identity:
    """Return the key in `state_dir`. Generate it if there is none.

    Raises:
        BrokenState: The key cannot be read or is damaged.
        OSError: A new key cannot be written.
    """
    path = state_dir / FILE
    if not os.path.lexists(path):
        _create(path)
    try:
        key = serialization.load_pem_private_key(read_limited(path, MAX_SIZE), password=None)
    except OSError as error:
        raise BrokenState(f"The device's key {path} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError):
        raise _damaged(path) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _damaged(path)
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return Identity(key, key_text(raw))


def remove_unfinished_keys(state_dir: Path) -> None:
    """Remove unfinished key files after a power cut, except those that a running process is writing."""
    for path in state_dir.glob(f"{FILE}.*.new"):
        if not Path(f"/proc/{path.name.split('.')[-2]}").exists():
            path.unlink(missing_ok=True)


def _damaged(path: Path) -> BrokenState:
    return BrokenState(
        f"The device's key {path} is damaged. Restore it from a backup, or move it aside, decommission this device on"
        " the control plane and enrol it again."
    )


def _create(path: Path) -> None:
    """Write a new key completely before it gets its name. `link` never replaces an existing key."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
