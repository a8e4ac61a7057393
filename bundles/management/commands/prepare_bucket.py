"""Set the bucket's rules: which pages may upload from a browser, and when leftovers are deleted."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from django.conf import settings
from django.core.files.storage import storages
from django.core.management.base import BaseCommand, CommandError

from bundles.storage.s3_client import Bucket, code_of, translated
from foundation.errors import ApiError

ABORT_DAYS, LEFTOVER_DAYS = 7, 7
NO_RULES = {"NoSuchCORSConfiguration", "NoSuchLifecycleConfiguration"}
NO_BUCKET = {"404", "NoSuchBucket"}
# For multipart uploads (even of copies) that were never completed, and objects under uploads/ that were left there.
LIFECYCLE = [
    {
        "ID": "kernex-abandoned-parts", "Status": "Enabled", "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABORT_DAYS},
    },
    {
        "ID": "kernex-leftovers", "Status": "Enabled", "Filter": {"Prefix": "uploads/"},
        "Expiration": {"Days": LEFTOVER_DAYS}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    },
]  # fmt: skip


def cors_rule(origins: list[str]) -> dict[str, Any]:
    """Return the CORS rule for pages of these origins."""
    return {
        "AllowedOrigins": origins, "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 3600,
    }  # fmt: skip


class Command(BaseCommand):
    help = (
        "Set the CORS and lifecycle rules of STORAGE_BUCKET. Other rules are kept. Idempotent. Needs a key that may "
        "change the bucket. Exit code 1 with --check: a rule is missing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--origin", action="append", help="a page that may upload from a browser (default: PUBLIC_URL)"
        )
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--check", action="store_true", help="change nothing; name what is missing")
        mode.add_argument("--make", action="store_true", help="create the bucket if it is missing, without any rules")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        bucket = storages["default"]
        if not isinstance(bucket, Bucket):
            raise CommandError("No bucket is configured. Set STORAGE_BUCKET, STORAGE_ENDPOINT_URL and their key.")
        try:
            with translated():
                if options["make"]:
                    changed = self.make(bucket)
                else:
                    changed = self.prepare(bucket, options["origin"] or [settings.PUBLIC_URL], options["check"])
        except ApiError as error:
            raise CommandError(f"{error.message} The log says why.") from error
        if options["json"]:
            self.stdout.write(
                json.dumps({"bucket": bucket.bucket_name, "missing" if options["check"] else "set": changed})
            )
        else:
            verb = "Missing" if options["check"] else "Set"
            self.stdout.write(f"{verb}: {', '.join(changed)}." if changed else "Nothing is missing.")
        if options["check"] and changed:
            sys.exit(1)

    def make(self, bucket: Bucket) -> list[str]:
        """Create the bucket, for storage that the operator runs. Return what was created."""
        try:
            bucket.patient.head_bucket(Bucket=bucket.bucket_name)
        except ClientError as error:
            if code_of(error) not in NO_BUCKET:
                raise
            bucket.patient.create_bucket(Bucket=bucket.bucket_name)
            return ["bucket"]
        return []

    def prepare(self, bucket: Bucket, origins: list[str], check_only: bool) -> list[str]:
        """Set the missing rules, unless `check_only`. Return which were missing: `cors`, `lifecycle`."""
        name, client, missing = bucket.bucket_name, bucket.patient, []
        kept = _rules(lambda: client.get_bucket_cors(Bucket=name)["CORSRules"])
        if not any(_contains(rule, cors_rule(origins)) for rule in kept):
            missing.append("cors")
            if not check_only:
                client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [*kept, cors_rule(origins)]})
        kept = _rules(lambda: client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"])
        if not all(any(_contains(rule, wanted) for rule in kept) for wanted in LIFECYCLE):
            missing.append("lifecycle")
            if not check_only:
                names = {rule["ID"] for rule in LIFECYCLE}
                rules = [*(rule for rule in kept if rule.get("ID") not in names), *LIFECYCLE]
                client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
        return missing


def _contains(rule: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Return whether a rule contains all required fields. Some storages omit empty fields and add others."""
    return all(rule.get(name) == value for name, value in wanted.items() if name != "Filter")


def _rules(request: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the bucket's current rules. S3 returns an error if there are none."""
    try:
        return request()
    except ClientError as error:
        if code_of(error) not in NO_RULES:
            raise
        return []
