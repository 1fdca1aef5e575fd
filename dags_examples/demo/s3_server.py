"""A real S3 server in one folder: start it, make buckets, see what is left in it, stop it.

versitygw on the loopback interface, a free port, TLS by an authority of its own. For tests and
the demo: its owner's keys are made anew at each start, and end with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dags_examples.demo.certificates import CertificateAuthority
from dags_examples.demo.kept_programs import KeptPrograms, emptied, start_on_free_ports

START_S = 60.0
REGION = "us-east-1"


class Masked(str):
    """A text that does not show itself when it is printed as a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(slots=True, kw_only=True)
class RunningS3:
    """An S3 server that runs for as long as the block lasts.

    Attributes:
        binary: The server's program, of versitygw.
        folder: Where everything of it lies; emptied at the start.
        port: Where it listens; 0 until it was started.
        access_key: Its owner's key id.
        secret_key: Its owner's secret; good for everything in it.
        authority: Issues certificates that clients of this server trust.
        attributes_in_files: Keep what it knows of objects in files of its own. Attributes of a file
            have no room in ext4 for a thousand parts: such an upload ends with a "full disk".
    """

    binary: Path
    folder: Path
    port: int = 0
    attributes_in_files: bool = False
    access_key: str = field(default_factory=lambda: f"AK{secrets.token_hex(9).upper()}")
    secret_key: str = field(default_factory=lambda: Masked(secrets.token_hex(20)))
    authority: CertificateAuthority | None = field(default=None, repr=False)
    _programs: KeptPrograms | None = field(default=None, repr=False)
    _session: Any = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The certificate of the authority to trust, PEM."""
        return self.folder / "ca.pem"

    @property
    def data(self) -> Path:
        """A folder for each bucket, with a file for each object's newest version."""
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._programs is not None
        return min(self._programs.pids())

    def __enter__(self) -> Self:
        emptied(self.folder, "data", "versions", "accounts", "attributes")
        self.authority = CertificateAuthority.make(self.ca)
        self.authority.for_server(self.folder)
        try:
            start_on_free_ports(1, self._start_at, stop=self.stop)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def client(self, **settings: Any) -> Any:
        """A boto3 client of it for its owner; `settings` go before what it is made with."""
        from boto3.session import Session
        from botocore.config import Config

        # It holds what clients are made by, which takes ten times as long to read as a client.
        self._session = self._session or Session()
        # In chunks, as botocore frames bytes otherwise, the server refuses some of them at times.
        once = Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
        )
        made = {"endpoint_url": self.url, "region_name": REGION, "verify": str(self.ca)}
        made |= {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        return self._session.client("s3", **(made | {"config": once} | settings))

    def make_bucket(self, name: str, *, versioned: bool = False, locked: bool = False) -> str:
        """Make a bucket; returns its name.

        Args:
            name: At least three lower-case letters, digits and hyphens.
            versioned: It keeps every version of an object.
            locked: Objects in it can be locked; such a bucket is always versioned.
        """
        client = self.client()
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
        if versioned or locked:
            status = {"Status": "Enabled"}
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration=status)
        return name

    def new_bucket(self, *, versioned: bool = False, locked: bool = False) -> str:
        """Make a bucket of a name that nobody used; returns the name."""
        name = f"bucket-{secrets.token_hex(6)}"
        return self.make_bucket(name, versioned=versioned, locked=locked)

    def uploads(self) -> Iterator[str]:
        """The address of each multipart upload that was neither completed nor aborted."""
        client = self.client()
        for bucket in client.list_buckets()["Buckets"]:
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket["Name"])
            for page in pages:
                for upload in page.get("Uploads", []):
                    yield f"s3://{bucket['Name']}/{upload['Key']}"

    def stop(self) -> None:
        """Stop it; what it stores stays, for `start`."""
        running, self._programs = self._programs, None
        if running is not None:
            running.stop()

    def start(self) -> None:
        """Start it again after `stop`, where it was, with what it stored."""
        folder = str(self.folder)
        command = [str(self.binary), "--port", f"127.0.0.1:{self.port}", "--keep-alive", "--quiet"]
        command += ["--cert", f"{folder}/server.pem", "--key", f"{folder}/server.key"]
        command += ["--health", "/health", "--iam-dir", f"{folder}/accounts", "--region", REGION]
        command += ["posix", "--versioning-dir", f"{folder}/versions"]
        command += ["--sidecar", f"{folder}/attributes"] if self.attributes_in_files else []
        command.append(str(self.data))
        # Not as arguments: those are for everybody on the machine to read.
        keys = {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": str(self.secret_key)}
        self._programs = KeptPrograms(
            programs={"s3": command}, folder=self.folder, environment=keys
        )
        self._programs.start()
        self._programs.wait(self._answers, "S3 answers", START_S)

    def _start_at(self, port: int) -> None:
        self.port = port
        self.start()

    def _answers(self) -> bool:
        from botocore.exceptions import BotoCoreError

        try:
            self.client().list_buckets()
        except BotoCoreError:
            return False
        return True
