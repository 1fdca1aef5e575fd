"""What whoever has a worker's login can and cannot do to a log through its inbox."""

from __future__ import annotations

import os
import threading

import psycopg
import pytest

from airflow_secure_ml.adapters.postgres_audit.inbox_line import InboxLines, rows_of
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.core.audit.frame import encode_frame
from airflow_secure_ml.core.audit.stamp import Stamp
from airflow_secure_ml.errors import ServiceUnavailableError
from tests.attacks.pushing import fact
from tests.services.audit.conftest import ALICE, BOB, chain, event, framed

from .conftest import ADD

pytestmark = pytest.mark.postgres


def test_what_a_worker_hands_over_is_in_the_log_once_and_gone_from_the_inbox(site):
    sink = site.sink()
    name = sink.record(fact("rows"))
    sink.settle()
    emitter = sink.emitter
    site.close_sink(sink)

    site.run()

    assert name == f"{emitter}:1"
    assert site.of(emitter) == [0, 1, 2]
    found = site.founds(emitter)[0]
    assert (found["via"], found["login"]) == ("inbox", "trail_worker")
    assert "owner_uid" not in found
    assert site.ends(emitter) == ["found", "whole"]
    assert site.rows() == 0
    assert site.verify().problem == ""


def test_the_same_frames_again_stand_once(site):
    story = chain(ALICE, 4)
    for _ in range(3):
        site.add(ALICE, story)
    site.add(ALICE, story[1:3])

    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3]
    assert site.refusals() == []
    assert site.rows() == 0


def test_another_event_in_the_place_of_one_is_refused_and_its_bytes_are_kept(site):
    story = chain(ALICE, 3)
    site.add(ALICE, story)
    site.add(ALICE, [event(ALICE, 1, story[0], act="object.seal")])

    site.run()

    assert site.of(ALICE) == [0, 1, 2]
    assert site.refusals() == ["another event of this name is in the log"]
    assert len(list((site.path / "refused").iterdir())) == 1


def test_an_event_in_another_emitters_name_is_refused(site):
    site.add(BOB, chain(BOB, 2, is_closed=False))
    site.add(BOB, chain(ALICE, 3))

    site.run()

    assert site.of(ALICE) == []
    assert site.of(BOB) == [0, 1]
    assert set(site.refusals()) == {"names another emitter"}


def test_a_stamp_of_a_workers_own_does_not_change_who_sent_it(site):
    forged = encode_frame(3, Stamp(via="socket", pid=1, uid=0).encode())
    site.place.query(ADD, (ALICE, 0, forged + framed(chain(ALICE, 3))), user="trail_worker")
    site.add(ALICE, chain(ALICE, 3))

    site.run()

    found = site.founds(ALICE)[0]
    assert (found["via"], found["login"]) == ("inbox", "trail_worker")
    assert "another sender than the emitter's" in site.refusals()
    assert site.of(ALICE) == [0, 1, 2]


@pytest.mark.parametrize("is_restarted", [False, True], ids=["same sequencer", "another one"])
@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "ended"])
def test_another_login_cannot_go_on_with_an_emitter(site, other_worker, is_restarted, is_closed):
    story = chain(ALICE, 3, is_closed=is_closed)
    site.add(ALICE, story)
    site.run()
    if is_restarted:
        site.restart()
    site.add(ALICE, [event(ALICE, 3, story[-1])], user=other_worker)

    site.run()

    assert site.of(ALICE) == [0, 1, 2]
    assert "another sender than the emitter's" in site.refusals()
    assert site.rows() == 0


def test_another_login_that_is_first_in_the_queue_does_not_keep_the_owner_out(site, other_worker):
    story = chain(ALICE, 4)
    site.add(ALICE, story[:2])
    site.run()
    site.restart()
    site.add(ALICE, [event(ALICE, 2, story[1], act="object.seal")], user=other_worker)
    site.add(ALICE, story[2:])

    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3]
    assert site.ends(ALICE)[-1] == "whole"


def test_an_emitter_of_a_spool_is_not_gone_on_with_through_the_inbox(site):
    story = chain(ALICE, 3, is_closed=False)
    site.put(ALICE, 0, story)
    site.run()
    site.restart()
    site.add(ALICE, [event(ALICE, 3, story[-1])])

    site.run()

    assert site.of(ALICE) == [0, 1, 2]
    assert set(site.refusals()) == {"a segment where its emitter's are not"}


def test_nobody_speaks_in_the_sequencers_name(site):
    site.add(ALICE, chain(ALICE, 3))
    site.run()
    me = site.events("trail.start")[0]["emitter"]
    site.add(me, [event(me, 0, None, act="trail.beat")])

    site.run()

    assert len(site.events("trail.beat")) == 0
    assert "a segment in a sequencer's name" in site.refusals()


@pytest.mark.parametrize(
    "rubbish",
    [b"x", bytes(100), b"\x01\x00\xff\xff" + bytes(50), b"\xff" * 1_048_576],
    ids=["a byte", "zeros", "a cut frame", "a megabyte"],
)
def test_rubbish_between_rows_hides_none_of_them(site, rubbish):
    story = chain(ALICE, 4)
    site.add(ALICE, story[:2])
    site.place.query(ADD, (ALICE, 0, rubbish), user="trail_worker")
    site.add(ALICE, story[2:])

    site.run()

    assert site.of(ALICE) == [0, 1, 2, 3]
    assert site.rows() == 0


def test_a_row_is_bounded_by_the_server(site):
    with pytest.raises(psycopg.errors.CheckViolation):
        site.place.query(ADD, (ALICE, 0, b"x" * 1_048_577), user="trail_worker")


def test_what_is_more_than_a_row_takes_is_handed_over_in_several_at_once(site):
    sink = site.sink()
    for number in range(120):
        sink.record(fact(f"{number} " + "x" * 1000))
        sink.record(fact("y" * 20_000))
    sink.settle()
    emitter = sink.emitter

    rows = site.rows()
    sink.close()
    site.run()

    assert rows > 2
    assert site.of(emitter) == list(range(242))


def test_rows_cut_between_frames_say_which_event_is_first():
    big = [event(ALICE, seq, None, more={"name": "x" * 30_000}) for seq in range(80)]
    frames = framed(big)

    rows = list(rows_of(frames))

    assert b"".join(data for _, data in rows) == frames
    assert [seq for seq, _ in rows] == [0, 34, 68]
    assert max(len(data) for _, data in rows) <= 1 << 20


def test_an_emitter_is_not_ended_while_its_session_lasts(site):
    sink = site.sink()
    sink.record(fact("rows"))
    sink.settle()
    emitter = sink.emitter
    site.start()
    for _ in range(3):
        site.sequencer.step()
        site.times.advance(2000)

    ends = site.ends(emitter)
    site.place.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'trail_worker'"
    )
    site.until_let_go()
    site.run()
    lingering = site.ends(emitter)
    site.inbox_s += 10.0
    site.run()

    assert ends == lingering == ["found"]
    assert site.ends(emitter) == ["found", "cut"]
    sink.record(fact("after"))
    sink.settle()
    site.close_sink(sink)
    site.run()
    assert site.of(emitter) == [0, 1, 2, 3]
    assert site.ends(emitter)[-1] == "whole"


def test_a_point_is_not_reached_without_the_servers_word(site):
    site.place.query("ALTER ROLE trail_worker CONNECTION LIMIT 0")
    try:
        lines = InboxLines(site.place.login("trail_worker"), patience_s=0.0)
        refusing = EmitterSink("task", lines)
        refusing.record(fact("rows"))
        with pytest.raises(ServiceUnavailableError, match="audit inbox") as caught:
            refusing.settle()
        counting = EmitterSink("task", lines, on_unavailable="continue")
        counting.record(fact("rows"))
        counting.settle()
    finally:
        site.place.query("ALTER ROLE trail_worker CONNECTION LIMIT -1")
    counting.settle()
    counted = counting.emitter
    site.close_sink(counting)
    site.run()

    assert caught.value.why == "audit_unavailable"
    assert site.place.passwords["trail_worker"] not in str(caught.value)
    assert [e["more"]["points"] for e in site.events("emitter.loss")] == [1]
    assert site.ends(counted)[-1] == "whole"


def test_a_server_that_is_not_durable_is_no_inbox(site):
    site.place.query("ALTER ROLE trail_worker SET synchronous_commit = off")
    try:
        sink = site.sink()
        sink.record(fact("rows"))
        sink.settle()
        session = sink._emitter.line._session
        (found,) = session.execute("SELECT current_setting('synchronous_commit')").fetchone()
        sink.close()
    finally:
        site.place.query("ALTER ROLE trail_worker RESET synchronous_commit")

    assert found == "on"


def test_a_forked_child_leaves_the_parents_session_alone(site):
    sink = site.sink()
    sink.record(fact("before"))
    sink.settle()
    emitter = sink.emitter
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            sink.record(fact("child"))
            sink.settle()
            os.write(writer, sink.emitter.encode())
            sink.close()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    child = os.read(reader, 32).decode()
    session = sink._emitter.line._session
    sink.record(fact("after"))
    sink.settle()

    assert status == 0
    assert sink._emitter.line._session is session
    sink.close()
    site.run()
    assert site.of(emitter) == [0, 1, 2, 3]
    assert site.of(child) == [0, 1, 2]


def test_a_descriptor_that_became_another_file_is_not_written_to(site, tmp_path):
    sink = site.sink()
    sink.record(fact("before"))
    sink.settle()
    number = sink._emitter.line._session.fileno()
    victim = os.open(tmp_path / "victim", os.O_RDWR | os.O_CREAT)
    os.dup2(victim, number)
    sink.record(fact("after"))
    sink.settle()

    assert (tmp_path / "victim").read_bytes() == b""
    os.fstat(number)
    emitter = sink.emitter
    sink.close()
    site.run()
    assert site.of(emitter) == [0, 1, 2, 3]
    os.close(number)
    os.close(victim)


def test_a_late_transaction_with_a_lower_number_is_not_passed_over(site):
    story, other = chain(ALICE, 3), chain(BOB, 3)
    late = psycopg.connect(
        host=site.place.server.host,
        port=site.place.server.port,
        dbname=site.place.database,
        user="trail_worker",
        password=site.place.passwords["trail_worker"],
    )
    late.execute(ADD, (ALICE, 0, framed(story)))
    site.add(BOB, other)
    site.run()
    late.commit()
    late.close()
    site.inbox_s += 10.0

    site.run()

    assert site.of(BOB) == [0, 1, 2]
    assert site.of(ALICE) == [0, 1, 2]


def test_a_worker_that_holds_an_emitters_lock_keeps_nobody_from_adding(site):
    sink = site.sink()
    sink.record(fact("rows"))
    done = threading.Thread(target=sink.settle)
    from airflow_secure_ml.adapters.postgres_audit.inbox_line import LOCK_CLASS, lock_number

    with psycopg.connect(
        host=site.place.server.host,
        port=site.place.server.port,
        dbname=site.place.database,
        user="trail_worker",
        password=site.place.passwords["trail_worker"],
    ) as session:
        key = (LOCK_CLASS, lock_number(sink.emitter))
        session.execute("SELECT pg_advisory_lock(%s::int, %s::int)", key)
        done.start()
        done.join(20)

        assert not done.is_alive()
    sink.close()
