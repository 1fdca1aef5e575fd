"""Every attack on a stored log that must be caught, as an attacker with all rights plays it.

The attacker owns the files and the database, knows the formats, and makes everything anew that
follows from what they changed; some have the log's key as well. An attack returns what the reader
has beside the log: a kept checkpoint, the signer's record, other keys.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_secure_ml.core import ml_dsa
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, sign_checkpoint
from airflow_secure_ml.core.audit.log_key import ML_DSA_65
from airflow_secure_ml.core.audit.tree import leaf_hash, root_of
from tests.services.audit.conftest import ALICE, Held, chain, event
from tests.services.audit.test_verifying import (
    attack,
    leaves,
    relinked,
    rewrite,
    stolen_key,
)

# trail.start, found, ALICE's 20 (2 … 21), whole; found, BOB's 5 (24 … 28), whole; close.
FIRST, EARLY_SIZE, SIZE = 2, 23, 31
CAROL, MALLORY = "ca" * 16, "66" * 16
STRANGER = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        play: Plays it on an installation; returns kept=, last=, keys= of the reader.
        status: The verdict: 1 tampered, 4 incomplete, 5 cannot tell; 0 where nothing can show it.
        first_bad: The index that the verdict names; None: there is no single one.
        reason: Words of the reason; of both verifiers, where they use others.
        ends: How the emitters ended, where the attack was on one of them.
    """

    play: Callable[[Any], dict[str, Any] | None]
    status: int
    first_bad: int | None
    reason: str | tuple[str, str]
    ends: dict[str, int] | None = None


def sql(*statements):
    return lambda site: attack(site, *((text, ()) for text in statements))


def forged(site, at=6):
    stored = leaves(site)
    return relinked(stored, at, stored[at].replace(b"object.open", b"object.seal"))


def edit_and_hash(site):
    data = event(ALICE, 5, leaves(site)[FIRST + 4], act="object.seal")
    values = (data.decode(), leaf_hash(data), FIRST + 5)
    attack(site, ("UPDATE leaf SET data = ?, hash = ? WHERE idx = ?", values))


def insert(site):
    stored = leaves(site)
    rewrite(site, [*stored[:10], event(CAROL, 0, None, "emitter.open"), *stored[10:]])


def append(site):
    rewrite(site, [*leaves(site), event(CAROL, 0, None, "emitter.open")])


def append_in_sequencers_name(site):
    """Say that ALICE had a gap, to explain an event that was cut out of her chain."""
    stored = leaves(site)
    own = json.loads(stored[0])["emitter"]
    last = [data for data in stored if own.encode() in data and b"emitter.close" in data][-1]
    more = {"emitter": ALICE, "state": "gap", "events": 19}
    said = event(own, json.loads(last)["seq"] + 1, last, "trail.emitter", more=more)
    rewrite(site, [*stored[:9], *stored[10:], said])


def remake(site):
    rewrite(site, forged(site), sign=stolen_key(site))
    return {"kept": site.early}


def remake_unseen(site):
    rewrite(site, forged(site), sign=stolen_key(site))


def resign(site):
    rewrite(site, forged(site), sign=STRANGER)


def resign_beside(site):
    """Leave the note and put a stranger's under a later size."""
    rewrite(site, [*leaves(site), event(CAROL, 0, None, "emitter.open")])
    root = root_of(leaf_hash(data) for data in leaves(site))
    checkpoint = Checkpoint(origin=site.origin, size=SIZE + 1, root=root)
    note = sign_checkpoint(checkpoint, STRANGER.public_key().public_bytes_raw(), STRANGER.sign)
    attack(site, ("INSERT INTO checkpoint VALUES (?, ?, 0)", (SIZE + 1, note)))


def break_signature(site):
    found = sqlite3.connect(site.database)
    ((note,),) = found.execute("SELECT note FROM checkpoint WHERE size = ?", (EARLY_SIZE,))
    found.close()
    wrong = note[:-6] + ("A" if note[-6] != "A" else "B") + note[-5:]
    attack(site, ("UPDATE checkpoint SET note = ? WHERE size = ?", (wrong, EARLY_SIZE)))


def roll_back(site, *, with_last):
    """Put the store back to an older copy; with its signer's record or without."""
    site.start()
    newest = site.checkpointer.make()
    site.close()
    site.opened.clear()
    for name in ("trail.db", "signer/last"):
        shutil.copy(site.path / name, site.path / f"{name.replace('/', '-')}.old")
    site.start()
    site.put(CAROL, 0, chain(CAROL, 6))
    newest = site.run()
    site.close()
    site.opened.clear()
    for name in ("trail.db-wal", "trail.db-shm"):
        (site.path / name).unlink(missing_ok=True)
    shutil.copy(site.path / "trail.db.old", site.database)
    if with_last:
        shutil.copy(site.path / "signer-last.old", site.signer_path / "last")
    return newest, (site.signer_path / "last").read_text()


def retire(site):
    key = site.signer.public
    return {"keys": [LogKey(name=key.name, public_key=key.public_key, to_size=EARLY_SIZE)]}


def leave_the_second_away(site):
    """The reader knows a key of another kind; whoever broke Ed25519 signs with that alone."""
    second = ml_dsa.public_of(bytes(range(32)))
    key = LogKey(name=site.origin, public_key=second, algorithm=ML_DSA_65)
    return {"keys": [site.signer.public, key]}


def name_twice(site):
    """A second event of one name needs the unique index gone."""
    attack(site, ("DROP INDEX leaf_event", ()))
    twin = event(ALICE, 5, leaves(site)[FIRST + 4], act="object.seal")
    rewrite(site, [*leaves(site), twin], sign=stolen_key(site))


def name_twice_and_hide_it(site):
    """The same, and the index says that it is unique again, as the release made it."""
    connection = sqlite3.connect(site.database, isolation_level=None)
    ((made,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'leaf_event'")
    connection.close()
    name_twice(site)
    attack(
        site,
        (made.replace("UNIQUE ", ""), ()),
        ("PRAGMA writable_schema = ON", ()),
        ("UPDATE sqlite_master SET sql = ? WHERE name = 'leaf_event'", (made,)),
    )


def begin_another(site):
    """Put the leaves of a log under another one's name, and sign that with its key."""
    stored = leaves(site)
    other = stored[0].replace(site.origin.encode(), b"example.org/asml-trail/00000000")
    rewrite(site, relinked(stored, 0, other), sign=stolen_key(site))


def begin_again(site):
    """Say in the middle of a log that a log begins: what was before is another's."""
    stored = leaves(site)
    own = json.loads(stored[0])["emitter"]
    last = [data for data in stored if own.encode() in data and b"emitter.close" in data][-1]
    more = {"format": 1, "origin": site.origin}
    said = event(own, json.loads(last)["seq"] + 1, last, "trail.start", more=more)
    rewrite(site, [*stored, said], sign=stolen_key(site))


def duplicate(site):
    attack(site, ("DROP INDEX leaf_event", ()))
    rewrite(site, [*leaves(site), leaves(site)[5]])


def overwrite(site):
    site.database.write_bytes(b"x" * 9999)


def with_spool(play):
    """An attack on the spool, which becomes leaves and is signed."""

    def run(site):
        site.start(segments=Held(site.segments()))
        play(site)
        while site.sequencer.step(is_last=True).has_more:
            continue
        site.times.advance(61_000)
        while site.sequencer.step(is_last=True).has_more:
            continue
        site.checkpointer.make()
        site.close()
        site.opened.clear()

    return run


def suppress_the_last(site):
    site.put(CAROL, 0, chain(CAROL, 6, is_closed=False))


def unlink_a_segment(site):
    told = chain(CAROL, 9)
    site.put(CAROL, 0, told[:3])
    site.put(CAROL, 1, told[3:6]).unlink()
    site.put(CAROL, 2, told[6:])


def replace_a_segment(site):
    told = chain(CAROL, 9)
    site.put(CAROL, 0, told[:3])
    site.put(CAROL, 1, chain(CAROL, 9, act="object.seal")[3:])


def shorten_a_segment(site):
    path = site.put(CAROL, 0, chain(CAROL, 9))
    path.write_bytes(path.read_bytes()[:-40])


def tell_one_name_twice(site):
    told = chain(CAROL, 4, is_closed=False)
    site.put(CAROL, 0, told)
    site.put(CAROL, 1, [event(CAROL, 3, told[2], act="object.seal")])


CUT = "DELETE FROM leaf WHERE idx >= 12"
INDEX = ("index leaf_event is not as this release makes it", "indices or triggers are not those")
TRIGGER = ("trigger x is not as this release makes it", "indices or triggers are not those")
SWAP = tuple(
    f"UPDATE leaf SET idx = {new} WHERE idx = {old}" for new, old in [(99, 5), (5, 6), (6, 99)]
)
TWO = {"whole": 2}

ATTACKS = {
    "nothing": Attack(lambda site: {"kept": site.early}, 0, None, "", TWO),
    "edit a leaf": Attack(
        sql("UPDATE leaf SET data = replace(data, 'object.open', 'object.seal') WHERE idx = 7"),
        *(1, 7, "changed"),
    ),
    "edit a leaf and its hash": Attack(edit_and_hash, 1, FIRST + 5, "another root"),
    "edit a hash": Attack(sql("UPDATE leaf SET hash = zeroblob(32) WHERE idx = 9"), 1, 9, "hash"),
    "delete a leaf": Attack(sql("DELETE FROM leaf WHERE idx = 9"), 1, 9, "missing"),
    "delete a leaf and close up": Attack(
        sql("DELETE FROM leaf WHERE idx = 9", "UPDATE leaf SET idx = idx - 1 WHERE idx > 9"),
        *(1, 9, "another root"),
    ),
    "delete the first leaf": Attack(sql("DELETE FROM leaf WHERE idx = 0"), 1, 0, "missing"),
    "swap two leaves": Attack(sql(*SWAP), 1, 5, "another root"),
    "insert a leaf": Attack(insert, 1, 0, "another root"),
    "add a leaf at the end": Attack(append, 0, None, ""),
    "explain a deleted leaf": Attack(append_in_sequencers_name, 1, 9, "another root"),
    "cut": Attack(sql(CUT), 1, 12, "missing"),
    "cut, and the size": Attack(sql(CUT, "UPDATE log SET size = 12"), 1, None, "edge"),
    "cut, and checkpoints": Attack(
        sql(CUT, "DELETE FROM checkpoint WHERE size > 12"), 1, 12, "edge"
    ),
    "no checkpoints": Attack(sql("DELETE FROM checkpoint"), 4, 0, "no checkpoint"),
    "edge": Attack(sql("UPDATE log SET edge = zeroblob(length(edge))"), 1, SIZE, "edge"),
    "no row in log": Attack(sql("DELETE FROM log"), 1, None, "table log"),
    "remake below a kept checkpoint": Attack(remake, 1, 0, "another root"),
    "remake, and nobody kept one": Attack(remake_unseen, 0, None, ""),
    "sign with another key": Attack(resign, 1, None, "signed by no key known"),
    "sign more with another key": Attack(resign_beside, 1, None, "signed by no key known"),
    "break a signature": Attack(break_signature, 1, None, "signature"),
    "roll back the store": Attack(
        lambda site: {"last": roll_back(site, with_last=False)[1]}, 1, SIZE, "is missing"
    ),
    "roll back the store and its signer": Attack(
        lambda site: {"last": roll_back(site, with_last=True)[1]}, 0, None, ""
    ),
    "roll back both below a kept checkpoint": Attack(
        lambda site: {"kept": roll_back(site, with_last=True)[0]}, 1, SIZE, "is missing"
    ),
    "a retired key": Attack(retire, 1, None, "signed by no key known"),
    "leave the second signature away": Attack(
        leave_the_second_away, 1, None, "signed by no key known"
    ),
    "no key": Attack(lambda site: {"keys": []}, 5, None, "no key"),
    "a kept checkpoint that is none": Attack(lambda site: {"kept": "no"}, 5, None, "checkpoint"),
    "two events of one name": Attack(name_twice, 1, None, INDEX),
    "two events of one name, hidden": Attack(name_twice_and_hide_it, 1, None, "non-unique entry"),
    "another log's leaves": Attack(begin_another, 1, 0, "does not begin the log"),
    "a log within the log": Attack(begin_again, 1, SIZE, "says that a log begins here"),
    "a leaf twice": Attack(duplicate, 1, None, INDEX),
    "a weaker schema": Attack(sql("DROP INDEX leaf_event"), 1, None, INDEX),
    "a trigger": Attack(
        sql("CREATE TRIGGER x AFTER INSERT ON leaf BEGIN DELETE FROM aside; END"), 1, None, TRIGGER
    ),
    "a tile too many": Attack(
        sql("INSERT INTO tile VALUES (0, 0, zeroblob(8192))"), 1, None, "tiles"
    ),
    "another origin": Attack(
        sql("UPDATE log SET origin = 'x/asml-trail/00000000'"), 1, None, "of log"
    ),
    "no database": Attack(overwrite, 1, None, "file is not a database"),
    "suppress the last event": Attack(
        with_spool(suppress_the_last), 0, None, "", {"cut": 1, "whole": 2}
    ),
    "unlink a segment": Attack(
        with_spool(unlink_a_segment), 4, SIZE + 5, "missing", {"gap": 1, "whole": 2}
    ),
    "replace a segment": Attack(
        with_spool(replace_a_segment), 4, SIZE + 4, "missing", {"gap": 1, "whole": 2}
    ),
    "shorten a segment": Attack(
        with_spool(shorten_a_segment), 0, None, "", {"torn": 1, "whole": 2}
    ),
    "tell one name twice": Attack(
        with_spool(tell_one_name_twice), 0, None, "", {"cut": 1, "whole": 2}
    ),
}  # fmt: skip
