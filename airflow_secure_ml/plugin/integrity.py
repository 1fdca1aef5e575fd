"""What the Integrity page says: the level in words, old checkpoints, the spool, the keys."""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from airflow_secure_ml.adapters.sequencer import sequencer_pid
from airflow_secure_ml.core.audit.checkpoint import open_checkpoint
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT, Edge
from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.errors import FormatError, PolicyError, SecureMLError, SignatureError
from airflow_secure_ml.plugin.trail import Trail
from airflow_secure_ml.plugin.verification import Verdict
from airflow_secure_ml.plugin.views import When, when
from airflow_secure_ml.plugin.wording import ENDED, visible
from airflow_secure_ml.relay_ports import stamper
from airflow_secure_ml.services.endings import Ending, Endings
from airflow_secure_ml.services.kept_outside import kept_outside
from airflow_secure_ml.services.standing import LOCAL, Standing, witnessed
from airflow_secure_ml.settings import Settings

MAX_NOTE_CHARS = 16_384
# A pasted note loses its dash or its last newline easily.
_DASH = "\u2014"
NOTICED = (
    "An event that was changed, removed, added or moved by someone without the log key, once a "
    "checkpoint covers it.",
    "A log that was cut off or replaced, below a checkpoint that you kept elsewhere.",
    "An event that a process wrote and that never arrived: its recording ends without saying so.",
)
NOT_NOTICED = (
    "Whoever runs this machine and has store, log key and signer record can write another history "
    "above the newest checkpoint kept elsewhere. Keep one: copy it from this page, away from here.",
    "A task can withhold or invent events of its own user's tasks until they are taken in, which "
    "takes about a second.",
    "Work that goes around this package is not in the log at all.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolState:
    """What waits on one host to be taken in.

    Attributes:
        host: The host.
        folder: Where it waits.
        segments: How many files, those that running processes write among them.
        size_bytes: Their bytes.
        oldest_s: How long the oldest has gone without a change, seconds; None: nothing waits.
        problem: Why it could not be read; empty if it could.
    """

    host: str
    folder: str
    segments: int
    size_bytes: int
    oldest_s: float | None
    problem: str = ""


def compare(trail: Trail, pasted: str) -> Verdict:
    """Hold an old checkpoint against the log as its stored hashes tell it.

    Args:
        trail: The trail.
        pasted: The checkpoint's note, as somebody kept it.
    """
    note = tidy(pasted)
    store = trail.store
    try:
        old = open_checkpoint(note, trail.log_keys(), origin=store.origin())
    except FormatError as error:
        return Verdict(tone="look", sign="?", text=f"This is not a checkpoint: {error}.")
    except SignatureError as error:
        return Verdict(tone="bad", sign="✗", text=f"This checkpoint is not of this log: {error}.")
    except PolicyError as error:
        return Verdict(tone="look", sign="?", text=f"Nothing can be told from it: {error}.")
    size = store.size()
    if old.size > size:
        text = f"The log was cut: it has {size:,} events, your checkpoint covers {old.size:,}."
        return Verdict(tone="bad", sign="✗", text=text)
    reader = node_reader(store.leaf_hashes, store.tile)
    root = Edge.read(old.size, reader).root() if old.size else EMPTY_ROOT
    if not hmac.compare_digest(root, old.root):
        text = (
            f"Another history: the log's first {old.size:,} events are not those of your "
            "checkpoint. Verify now finds the first that differs."
        )
        return Verdict(tone="bad", sign="✗", text=text)
    grown = size - old.size
    more = f"grown by {grown:,} events since" if grown else "nothing was added since"
    text = f"Same log, {more}. Verify now holds your checkpoint against every event again."
    return Verdict(tone="good", sign="✓", text=text)


def level(trail: Trail) -> Standing:
    """What stands behind the log beyond its own key, in words."""
    settings = trail.settings
    witnesses, quorum = settings.audit_witnesses, settings.audit_witness_quorum
    try:
        book, keys = Deployment(settings).relay_book, trail.log_keys()
        found = witnessed(trail.store, book, keys, witnesses, quorum)
        more = kept_outside(
            book,
            anchor=settings.audit_anchor,
            stamper=partial(stamper, settings),
            log_keys=keys,
            origin=trail.store.origin(),
        )
        return replace(found, text=". ".join([found.text, *more]))
    except SecureMLError as error:
        return Standing(text=LOCAL, of=len(witnesses), quorum=quorum, problem=str(error))


def tidy(pasted: str) -> str:
    """A pasted note with its line ends and its last newline as they were."""
    lines = pasted[:MAX_NOTE_CHARS].replace("\r\n", "\n").strip().split("\n")
    lines = [line.rstrip() for line in lines]
    return (
        "\n".join(_DASH + line[1:] if line.startswith(("- ", "– ")) else line for line in lines)
        + "\n"
    )


def spool_folders(settings: Settings) -> list[Path]:
    """Where this host's processes write; the spare directory is a spool itself."""
    spare = settings.audit_spare_dir
    return [settings.audit_dir / "spool", *([] if spare is None else [spare])]


def spool_states(folders: Sequence[Path], *, now_s: float) -> tuple[SpoolState, ...]:
    """What waits in this host's spools.

    Only names and sizes are looked at: opening a segment that this process writes, and closing it
    again, would drop its lock.
    """
    return tuple(_spool_state(folder, now_s) for folder in folders)


def _spool_state(folder: Path, now_s: float) -> SpoolState:
    host, sizes, times = os.uname().nodename, [], []
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        entries = []
    except OSError as error:
        problem = error.strerror or "it cannot be read"
        return SpoolState(
            host=host, folder=str(folder), segments=0, size_bytes=0, oldest_s=None, problem=problem
        )
    for entry in entries:
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if entry.name.endswith(".seg") and stat.S_ISREG(found.st_mode):
            sizes.append(found.st_size)
            times.append(found.st_mtime)
    oldest = max(now_s - min(times), 0.0) if times else None
    return SpoolState(
        host=host,
        folder=str(folder),
        segments=len(sizes),
        size_bytes=sum(sizes),
        oldest_s=oldest,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRow:
    """A recording that did not end well, for a reader.

    Attributes:
        event: Name of its last event; empty: the log holds none.
        ended: How, in words.
        who: Program, process and host, as it said.
        work: DAG, run and task; empty: it recorded for none.
        last: What its last event says.
        when: When that was; None: not known.
    """

    event: str
    ended: str
    who: str
    work: str
    last: str
    when: When | None


def ended_rows(endings: Endings) -> tuple[EndedRow, ...]:
    """The recordings that did not end well; texts that tasks may have written are made visible."""
    return tuple(_ended_row(ending) for ending in endings.named)


def _ended_row(ending: Ending) -> EndedRow:
    process = "" if ending.pid is None else f", process {ending.pid}"
    return EndedRow(
        event=ending.last,
        ended=ENDED.get(ending.state, f"in part {ending.state}"),
        who=f"{visible(ending.program or '?')} on {visible(ending.host or '?')}{process}",
        work=visible(" · ".join(ending.run.values())),
        last=visible(ending.last_act or "nothing"),
        when=None if ending.last_ms is None else when(ending.last_ms),
    )


def sequencer_line(audit_dir: Path) -> str:
    """Whether something takes events in now."""
    pid = sequencer_pid(audit_dir)
    if pid is None:
        return "no sequencer runs: it starts with the next recorded event"
    return f"the sequencer runs (process {pid})" if pid else "the sequencer runs, elsewhere"
