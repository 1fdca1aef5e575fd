"""Attacks on keys to receive with: anybody who knows the public half can seal to it."""

from __future__ import annotations

import pytest

from airflow_secure_ml.core.sealed_file.hpke import HYBRID, recipient_of, recipient_text
from airflow_secure_ml.errors import PolicyError, SecureMLError, SignatureError
from airflow_secure_ml.services.key_choice import opening_keys, sealing_keys
from airflow_secure_ml.services.run_plan import Input, Output
from airflow_secure_ml.services.sealed_header import read_sealed_header
from airflow_secure_ml.services.sealing import open_object, seal_object

THEIRS = recipient_text(recipient_of(HYBRID, bytes(range(32))))


def _forge(bench, name, text, *, key="inbox"):
    """What somebody without any key seals, at an address they may write to."""
    uri = bench.uri(name)
    source = bench.path("forged.txt")
    source.write_text(text)
    with bench.local_objects.create(uri) as writer:
        keys = sealing_keys(bench.keys, [key])
        seal_object(source, writer, keys=keys, context={"object": uri})
        writer.commit(replace=True)
    source.unlink()
    return uri


@pytest.fixture
def inbox(bench):
    bench.keyring.create("inbox", "receive", post_quantum=True)
    return bench


def test_a_secured_task_opens_what_was_sealed_and_signed_for_it(inbox, plan):
    inbox.put("report", "from a colleague", output={"key": "inbox"})
    seen = {}

    inbox.run(
        plan(inputs=[Input(name="report", uri=inbox.uri("report"))]),
        lambda bound: seen.update(text=bound["report"].read_text()),
    )

    assert seen == {"text": "from a colleague"}


def test_a_secured_task_takes_nothing_that_anybody_sealed(inbox, plan):
    uri = _forge(inbox, "report", "from a stranger")

    with pytest.raises(SignatureError) as caught:
        inbox.run(plan(inputs=[Input(name="report", uri=uri)]))
    assert caught.value.why == "not_signed"


def test_a_signed_object_is_not_replaced_by_what_anybody_sealed(inbox, plan):
    inbox.put("report", "from a colleague", output={"key": "inbox"})
    uri = _forge(inbox, "report", "from a stranger!")

    with pytest.raises(SecureMLError) as caught:
        inbox.run(plan(inputs=[Input(name="report", uri=uri)]))
    assert caught.value.result == "refused"


def test_who_demands_no_signature_gets_no_key_to_receive_with(inbox):
    uri = _forge(inbox, "report", "from a stranger")

    with (
        inbox.local_objects.open(uri) as pinned,
        inbox.local_objects.create(uri) as writer,
        pytest.raises(PolicyError, match="anybody can seal") as caught,
    ):
        open_object(
            pinned,
            writer,
            keys=inbox.keys.unwrappers(),
            expect={"object": uri},
            state_of=inbox.keys.state_of,
        )
    assert caught.value.why == "key_not_allowed"


def test_a_slot_moved_to_another_file_opens_neither(inbox):
    first, second = _forge(inbox, "a", "a" * 5000), _forge(inbox, "b", "b" * 5000)
    store = inbox.local_objects
    with store.open(first) as one, store.open(second) as other:
        slots = [read_sealed_header(each).slots[0] for each in (one, other)]
        data = other.read_at(0, other.size_bytes)
    assert slots[0].id == slots[1].id
    inbox.path("b").write_bytes(data.replace(slots[1].body, slots[0].body))

    with (
        store.open(second) as pinned,
        store.create(second) as writer,
        pytest.raises(SecureMLError, match="another file"),
    ):
        open_object(pinned, writer, keys=opening_keys(inbox.keys), expect={"object": second})


def test_a_file_for_several_opens_with_each_and_with_no_other(inbox, plan):
    inbox.configure(
        key_names=f'{{"them": "{THEIRS}"}}', key_groups='{"all": ["data", "inbox", "them"]}'
    )
    inbox.put("report", "for all", output={"key": "all"})
    with inbox.local_objects.open(inbox.uri("report")) as pinned:
        types = [slot.type for slot in read_sealed_header(pinned).slots]
    assert types == [1, 2, 2]

    inbox.keyring.disable("data")
    seen = {}
    inbox.run(
        plan(inputs=[Input(name="report", uri=inbox.uri("report"))]),
        lambda bound: seen.update(text=bound["report"].read_text()),
    )
    assert seen == {"text": "for all"}
    inbox.keyring.disable("inbox")
    with pytest.raises(PolicyError):
        inbox.run(plan(inputs=[Input(name="report", uri=inbox.uri("report"))]))


def test_a_directory_for_several_opens_with_the_key_to_receive_with(inbox, plan):
    inbox.configure(key_groups='{"all": ["data", "inbox"]}')

    def make(bound):
        bound["out"].mkdir()
        (bound["out"] / "a").write_text("in a folder")

    inbox.run(plan(outputs=[Output(name="out", uri=inbox.uri("set"), key="all")]), make)
    inbox.keyring.disable("data")
    seen = {}
    inbox.run(
        plan(inputs=[Input(name="set", uri=inbox.uri("set"))]),
        lambda bound: seen.update(text=(bound["set"] / "a").read_text()),
    )

    assert seen == {"text": "in a folder"}
