"""Seal to an S3 server on loopback and open from it, beside boto3 that moves the same bytes plain.

A real server over TLS. boto3's transfer manager as it is by default, and Amazon's CRT under it; the
server takes its share of the same cores, and keeps its objects in memory: nobody waits for a disk.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contenders import PlainWriter, kek
from benchmarks.measuring import column, in_turns, median_ratio, say, spent

MIB = 1 << 20
CONTEXT = {"dataset": "bench"}
FILE_BYTES, THREADS = 10 * 1024, 8
DIRECTIONS = {"up": "sealed into S3", "down": "opened from S3"}
PEERS = {"boto3": "boto3", "crt": "CRT"}
Works = Mapping[str, Callable[[], dict[str, float]]]


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Wall and CPU seconds by size, direction and contender, round by round."""
    from dags_examples.demo.s3_server import RunningS3
    from tests.servers import build

    binary = build.find(build.SERVERS["s3"])
    if binary is None:
        raise SystemExit("s3: versitygw is missing; make servers")
    sizes = {32: 1} if quick else {256: 3, 1024: 3}
    files = 50 if quick else 1_000
    with (
        _in_memory(folder) as place,
        RunningS3(binary=binary, folder=place / "s3") as server,
        _Bench(server, place) as bench,
    ):
        large = {
            str(size): {
                which: in_turns(works, rounds, f"{size} MiB {which}")
                for which, works in bench.large(size).items()
            }
            for size, rounds in sizes.items()
        }
        small = {
            which: in_turns(works, 3, f"{files} files of 10 KiB {which}")
            for which, works in bench.small(files).items()
        }
    return {"large": large, "files": files, "threads": THREADS, "small": small}


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures as lines of the table."""
    from benchmarks.tables import size_in_words

    lines = []
    for size, directions in found["large"].items():
        words = size_in_words(int(size) * MIB)
        lines += [_large_row(words, which, directions[which]) for which in DIRECTIONS]
    for which, name, label in (
        ("up", "ours", "sealed into S3, as one directory"),
        ("up", "objects", "sealed into S3, each on its own"),
        ("down", "ours", "opened from S3"),
    ):
        rounds = found["small"][which]
        per_s, plain = (
            found["files"] / statistics.median(column(rounds[one], "wall_s"))
            for one in (name, "boto3")
        )
        lines.append(
            (
                f"{found['files']:,} files of 10 KiB {label}, {found['threads']} threads",
                f"{per_s:,.0f}/s",
                f"boto3, plain: {plain:,.0f}/s "
                f"({_ratio(rounds, 'boto3', 'wall_s', name):.2f} × its time)",
                "reported",
            )
        )
    return lines


def _large_row(words: str, which: str, rounds: Mapping[str, Any]) -> tuple[str, str, str, str]:
    ours = statistics.median(column(rounds["ours"], "wall_s"))
    times = {peer: _ratio(rounds, peer, "wall_s") for peer in PEERS}
    beside = ", ".join(
        f"{label}, plain: {statistics.median(column(rounds[peer], 'wall_s')):.2f} s "
        f"({times[peer]:.2f} × its time, {_ratio(rounds, peer, 'cpu_s'):.2f} × its CPU)"
        for peer, label in PEERS.items()
    )
    aim = "; ".join(
        f"≤ 1.15 × {label}: {'met' if times[peer] <= 1.15 else '**missed**'}"
        for peer, label in PEERS.items()
    )
    return f"{words} {DIRECTIONS[which]}", f"{ours:.2f} s", beside, aim


def _ratio(rounds: Mapping[str, Any], peer: str, figure: str, name: str = "ours") -> float:
    return median_ratio(column(rounds[name], figure), column(rounds[peer], figure))


@contextmanager
def _in_memory(folder: Path) -> Iterator[Path]:
    """A folder in memory that takes the attributes in which the server keeps its own; else ours."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="secure-ml-bench-") as name:
        try:
            os.setxattr(name, "user.bench", b"1")
        except OSError:
            yield folder
        else:
            yield Path(name)


class _Bench:
    """Every contender's client of one server; a context manager."""

    def __init__(self, server: Any, folder: Path) -> None:
        from botocore.config import Config

        from airflow_secure_ml.adapters.aws.s3 import S3Objects

        self._folder, self._bucket = folder, server.make_bucket("bench")
        self._target = folder / "target"
        # Its defaults, but for checksums: it sends them behind a body, and this server loses its
        # place in the connection after that. So it is spared the work of taking any.
        style = {"addressing_style": "path", "payload_signing_enabled": False}
        self._boto3 = server.client(
            config=Config(s3=style, request_checksum_calculation="when_required")
        )
        ours = _session(server).client("s3")
        self._store = S3Objects(lambda bucket: ours)
        self._held = ExitStack()
        self._crt = self._held.enter_context(_crt_manager(server))

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def large(self, size_mib: int) -> dict[str, Works]:
        """One object each, of the same bytes."""
        source = self._folder / "plain"
        say(f"s3: writing {size_mib} MiB")
        with source.open("wb") as file:
            for _ in range(size_mib):
                file.write(os.urandom(MIB))
        path, target = str(source), str(self._target)
        return {
            "up": self._apart(
                ours=lambda: self._seal(path, "ours"),
                boto3=lambda: self._boto3.upload_file(path, self._bucket, "boto3"),
                crt=lambda: self._crt.upload(path, self._bucket, "crt").result(),
            ),
            "down": self._apart(
                ours=lambda: self._open("ours", target),
                boto3=lambda: self._boto3.download_file(self._bucket, "boto3", target),
                crt=lambda: self._crt.download(self._bucket, "crt", target).result(),
            ),
        }

    def small(self, count: int) -> dict[str, Works]:
        """Many small objects each, by as many threads."""
        small = _Small(self._store, self._boto3, self._bucket, count)
        return {
            "up": self._apart(
                ours=small.seal_directory, objects=small.seal_objects, boto3=small.put
            ),
            "down": self._apart(ours=small.open_directory, boto3=small.get),
        }

    def _apart(self, **works: Callable[[], object]) -> Works:
        def once(work: Callable[[], object]) -> dict[str, float]:
            # Nobody pays for another's file, which the next would else have to empty.
            self._target.unlink(missing_ok=True)
            return spent(work)

        return {name: lambda work=work: once(work) for name, work in works.items()}

    def _seal(self, source: Any, key: str) -> None:
        with self._store.create(f"s3://{self._bucket}/{key}") as writer:
            seal_into(source, writer)
            writer.commit(replace=True)

    def _open(self, key: str, target: str) -> None:
        with (
            self._store.open(f"s3://{self._bucket}/{key}") as pinned,
            closing(PlainWriter(target)) as sink,
        ):
            open_from(pinned, sink)


class _Small:
    """The same small file so many times: one directory of ours, or objects; plain ones of boto3."""

    def __init__(self, store: Any, boto3: Any, bucket: str, count: int) -> None:
        from airflow_secure_ml.testing.memory_objects import MemoryObjects

        self._store, self._boto3, self._bucket = store, boto3, bucket
        self._names = [f"{number // 100:03}/{number}" for number in range(count)]
        self._data, self._plain = os.urandom(FILE_BYTES), MemoryObjects()
        self._plain.put("file:///plain", self._data)
        self._numbers = itertools.count()
        self._newest = ""

    def seal_directory(self) -> None:
        self._newest = f"s3://{self._bucket}/directory-{next(self._numbers)}"
        with self._store.create_directory(self._newest) as folder:
            _each(lambda name: self._seal(folder.create(name)), self._names)
            folder.commit(replace=False)

    def seal_objects(self) -> None:
        """Each is held against a directory of its name first, which asks the store once more."""
        root = f"s3://{self._bucket}/objects-{next(self._numbers)}"
        _each(lambda name: self._seal(self._store.create(f"{root}/{name}")), self._names)

    def _seal(self, writer: Any) -> None:
        with self._plain.open("file:///plain") as source, writer:
            seal_into(source, writer, threads=1)
            writer.commit(replace=False)

    def open_directory(self) -> None:
        with self._store.open_directory(self._newest) as folder:
            _each(lambda name: self._open(folder.open(name)), folder.names())

    def _open(self, pinned: Any) -> None:
        from airflow_secure_ml.testing.memory_objects import MemoryObjects

        opened = MemoryObjects()
        with pinned, opened.create("file:///x") as writer:
            open_from(pinned, writer, threads=1)
            writer.commit(replace=False)
        assert opened.objects["file:///x"] == self._data

    def put(self) -> None:
        _each(
            lambda name: self._boto3.put_object(
                Bucket=self._bucket, Key=f"small/{name}", Body=self._data
            ),
            self._names,
        )

    def get(self) -> None:
        def get(name: str) -> None:
            answer = self._boto3.get_object(Bucket=self._bucket, Key=f"small/{name}")
            assert answer["Body"].read() == self._data

        _each(get, self._names)


def seal_into(source: Any, writer: Any, **options: Any) -> None:
    """Seal as `secure()` does it, with the digest that a statement needs."""
    from airflow_secure_ml.services.sealing import seal_object

    seal_object(source, writer, keys=[kek()], context=CONTEXT, **options)


def open_from(pinned: Any, sink: Any, **options: Any) -> None:
    """Open as `secure()` does it, with the digest that is held against a statement."""
    from airflow_secure_ml.services.sealing import open_object

    open_object(pinned, sink, keys=[kek()], expect=CONTEXT, **options)


def _each(act: Callable[[str], None], names: Sequence[str]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(act, names):
            pass


def _session(server: Any) -> Any:
    """A client as users of this package have it."""
    from airflow_secure_ml.adapters.aws.session import AwsIdentity, AwsSession
    from airflow_secure_ml.core.secret import Secret
    from dags_examples.demo.s3_server import REGION

    return AwsSession(
        AwsIdentity(
            name="bench",
            access_key=server.access_key,
            secret_key=Secret(str(server.secret_key)),
            region=REGION,
            endpoint=server.url,
            ca=str(server.ca),
            addressing_style="path",
        )
    )


@contextmanager
def _crt_manager(server: Any) -> Iterator[Any]:
    """What boto3 hands transfers to where CRT is preferred; boto3 itself takes no authority."""
    import botocore.session
    from botocore.config import Config
    from s3transfer import crt

    from dags_examples.demo.s3_server import REGION

    session = botocore.session.Session()
    session.set_credentials(server.access_key, str(server.secret_key))
    wrapped = crt.BotocoreCRTCredentialsWrapper(session.get_credentials())
    client = crt.create_s3_crt_client(
        REGION, wrapped.to_crt_credentials_provider(), verify=str(server.ca)
    )
    where = {"region_name": REGION, "endpoint_url": server.url}
    style = Config(s3={"addressing_style": "path"})
    serializer = crt.BotocoreCRTRequestSerializer(session, {**where, "config": style})
    with crt.CRTTransferManager(client, serializer) as manager:
        yield manager
