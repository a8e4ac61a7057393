"""The device's identity: an Ed25519 key pair that is made on the device and never leaves it."""

import base64
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent import files
from agent.errors import BadState

COMPONENTS = '"@method" "@authority" "@path" "@query" "content-digest"'


class Identity:
    """Signs requests (RFC 9421). `public_key` is unpadded base64url of the 32 raw bytes, and the `keyid`."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.key = key
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_key = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    @classmethod
    def load_or_make(cls, path: Path) -> "Identity":
        """The key in `path`; made there if there is none. Raises `BadState` for a file that is no key."""
        if not path.exists():
            made = Ed25519PrivateKey.generate()
            files.write(path, made.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(path.read_bytes()))
        except ValueError as error:
            raise BadState(f"{path} is no key: move it away and enrol this device anew with a new token.") from error

    def sign(
        self, method: str, authority: str, path: str, query: str, body: bytes, created: int, sequence: int | None = None
    ) -> dict[str, str]:
        """The headers that sign one request; with `sequence`, a heartbeat's. `created` is in Unix seconds."""
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        components = f"({COMPONENTS})" if sequence is None else f'({COMPONENTS} "kernex-sequence")'
        parameters = f'{components};created={created};keyid="{self.public_key}";alg="ed25519"'
        lines = [
            f'"@method": {method}',
            f'"@authority": {authority}',
            f'"@path": {path}',
            f'"@query": ?{query}',
            f'"content-digest": {digest}',
        ]
        headers = {"Content-Digest": digest, "Signature-Input": f"kernex={parameters}"}
        if sequence is not None:
            lines.append(f'"kernex-sequence": {sequence}')
            headers["Kernex-Sequence"] = str(sequence)
        lines.append(f'"@signature-params": {parameters}')
        signature = self.key.sign("\n".join(lines).encode())
        headers["Signature"] = f"kernex=:{base64.b64encode(signature).decode()}:"
        return headers
