"""A token a team: each says whose it is, and none speaks for another's processes."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.ingest.line import IngestLines
from airflow_secure_ml.adapters.ingest.tokens import token_digest
from airflow_secure_ml.adapters.spool import EmitterSink
from airflow_secure_ml.errors import ServiceUnavailableError
from airflow_secure_ml.plugin import ingest
from tests.attacks.pushing import fact
from tests.services.audit.conftest import ALICE, chain, event, framed

from .conftest import TOKEN, hand_over

RED, BLUE = "1" * 64, "2" * 64


@pytest.fixture
def teams(token_path):
    """The end point's file: two teams, no secret."""
    red, blue = (f"{name} sha256:{token_digest(token)}\n" for name, token in ALL)
    token_path.write_text(f"# workers\n{red}\n{blue}")


ALL = (("red", RED), ("blue.2", BLUE))


def forged(prev):
    return event(ALICE, 2, prev, act="object.publish")


def founds(site):
    more = [e["more"] for e in site.events("trail.emitter")]
    return {m["emitter"]: m.get("login") for m in more if m["state"] == "found"}


def restart(site):
    """Another API server's process and another sequencer's."""
    ingest.shared_door().receiver.close()
    site.close()
    site.opened.clear()
    site.start()


@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize(("name", "token"), ALL, ids=["red", "blue"])
def test_what_a_team_hands_over_carries_its_name(site, server, tmp_path, name, token):
    path = tmp_path / "own"
    path.touch(mode=0o600)
    path.write_text(token + "\n")
    emitter = hand_over(server.url, path)

    site.run()

    assert founds(site) == {emitter: name}


@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize("token", [TOKEN, token_digest(RED), "", "red", f"red {RED}"])
def test_nobody_elses_token_opens_it_nor_does_what_stands_in_the_file(server, token):
    assert server.post(framed(chain(ALICE, 2)), emitter=ALICE, token=token)[0] == 401


@pytest.mark.usefixtures("teams")
@pytest.mark.parametrize("then", [lambda site: None, restart], ids=["at once", "after a restart"])
def test_a_team_does_not_carry_on_anothers_process(site, server, then):
    story = chain(ALICE, 2, is_closed=False)
    assert server.post(framed(story), emitter=ALICE, token=RED)[0] == 200
    site.run()
    then(site)

    server.post(framed([*story, forged(story[1])]), emitter=ALICE, token=BLUE)
    ingest.shared_door().receiver.close()
    site.run()

    assert site.of(ALICE) == [0, 1]
    assert founds(site) == {ALICE: "red"}
    assert "another sender than the emitter's" in [
        e["more"]["because"] for e in site.events("trail.refused")
    ]


@pytest.mark.usefixtures("teams")
def test_a_team_keeps_no_other_from_going_on_by_taking_its_name(site, server):
    story = chain(ALICE, 4)
    assert server.post(framed(story[:2]), emitter=ALICE, token=RED)[0] == 200
    site.run()
    restart(site)

    taken = server.post(framed([forged(story[1])]), emitter=ALICE, token=BLUE)
    went_on = server.post(framed(story[2:]), emitter=ALICE, token=RED)
    ingest.shared_door().receiver.close()
    site.run()

    assert (taken[0], went_on[0]) == (200, 200)
    assert site.of(ALICE) == [0, 1, 2, 3]
    assert "object.publish" not in {e["act"] for e in site.events()}


@pytest.mark.parametrize(
    "text",
    ["", "# nobody\n", "red\n", f"red {RED}\n", "red sha256:12\n", f"{TOKEN}\n{TOKEN}\n"],
    ids=["empty", "a remark", "no digest", "a secret", "short", "two tokens"],
)
def test_a_file_that_says_nothing_lets_nobody_in(server, token_path, text, caplog):
    token_path.write_text(text)

    assert server.post(framed(chain(ALICE, 2)), emitter=ALICE, token=RED)[0] == 503
    assert RED not in caplog.text
    assert TOKEN not in caplog.text


def test_a_team_named_twice_lets_nobody_in(server, token_path):
    token_path.write_text(f"red sha256:{token_digest(RED)}\nred sha256:{token_digest(BLUE)}\n")

    assert server.post(framed(chain(ALICE, 2)), emitter=ALICE, token=RED)[0] == 503


@pytest.mark.usefixtures("teams")
def test_a_sender_that_holds_the_end_points_file_has_no_token(server, token_path):
    sink = EmitterSink("task", IngestLines(server.url, token_path, patience_s=0.0))
    sink.record(fact("value"))

    with pytest.raises(ServiceUnavailableError, match="no token of"):
        sink.settle()
