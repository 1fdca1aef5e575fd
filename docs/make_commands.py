"""Write docs/commands.md from the commands' own declaration: `python docs/make_commands.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "commands.md"

_HEAD = """\
# Commands

`secure-ml …` on a shell, or `airflow secure-ml …`: the same commands from one declaration. The
first does not import Airflow and starts in a fraction of a second; both read the section
`[secure_ml]` as tasks do ([settings](settings.md)).

Exit status: 0 done · 1 refused (tampered, wrong key, wrong context, not signed) · 2 wrong use or
configuration · 3 another system failed. `audit verify` also says 4, incomplete, and 5, cannot tell;
`audit reconcile` says 4 where Airflow's task tries and the trail differ, `audit compare-vault` 4
where Vault's log and the trail do, and 5 where it cannot tell ([coverage](coverage.md)).
Messages go to standard error, with `--json` as one JSON object with `error`, `why` and `message`.

What touches a key or data is recorded in the audit trail before it happens, with who does it; where
that is not possible it does not happen. `keys list`, `keys usage`, `keys export-public` and
`inspect` use no key and are not recorded.

`-` is a pipe. What `seal` and `open` write to a file appears when all of it was verified, or not
at all. What they write to a pipe cannot be taken back: each part was verified before it is
written, and only exit status 0 says that it was all.

```console
$ secure-ml keys init
$ secure-ml seal customers.csv customers.sealed --key data --context purpose=training
$ secure-ml inspect customers.sealed
$ secure-ml open customers.sealed customers.csv.new --context purpose=training
$ secure-ml sign customers.sealed && secure-ml verify customers.sealed --signed-by pipeline
$ pg_dump app | secure-ml seal - - --context purpose=backup > app.sealed
$ secure-ml keys rotate data && secure-ml rewrap customers.sealed --key data
```

| command | what it does |
|---|---|
"""

_TAIL = """
Every PATH, SRC and DST is a local path or an address of a store, such as `s3://bucket/key`.

`seal --recursive` and `open --recursive` bring whole folders in and out again, go on where they
were interrupted, and say at the end what came of it: counts, bytes and the first ten reasons of
what failed, with `--json` as one object ([bringing existing data in, and taking it out
again](platform-teams.md#bringing-existing-data-in-and-taking-it-out-again)).

A rewrap revokes nothing: who had a file's key keeps it, and old copies keep old slots. Seal again
to take access away. `keys destroy` overwrites the key in the file; a backup, a snapshot or a
journal may still hold it.

Where `key_system`, or a name's address in `key_names`, is `vault://…`, keys lie in Vault's Transit
engine. `keys rotate`, `keys usage`, `keys list` and `rewrap --recursive` work there as they do on
a keyring. `rewrap --recursive` is blind then: it takes a right to `transit/rewrap`, and none to
decrypt. Making and deleting keys is for Vault's own tool; a key that seals must be derived:

```
vault write transit/keys/data type=aes256-gcm96 derived=true
vault write transit/keys/pipeline type=ed25519
```

Old versions are taken out of use (in Vault `min_decryption_version`) by `KeyUsageOperator` alone,
after it counted everything twice and found that nothing needs them.
"""


def render() -> str:
    """Return the page."""
    sys.path.insert(0, str(ROOT))
    from airflow_secure_ml.cli import COMMANDS

    return _HEAD + "".join(_rows(COMMANDS, "")) + _TAIL


def _rows(entries: tuple[object, ...], before: str) -> Iterator[str]:
    from airflow_secure_ml.cli import Command, Group

    for entry in entries:
        if isinstance(entry, Group):
            yield from _rows(entry.commands, f"{entry.name} ")
        elif isinstance(entry, Command):
            words = " ".join([before + entry.name, *map(_word, entry.arguments[:-1])])
            yield f"| `{words}` | {entry.help.replace('|', '/')} |\n"


def _word(argument: object) -> str:
    from airflow_secure_ml.commands.declaring import Argument

    assert isinstance(argument, Argument)
    flag, options = argument.flags[0], argument.options
    if not flag.startswith("-"):
        return f"{options['metavar']}…" if options.get("nargs") == "+" else str(options["metavar"])
    if options.get("action") == "store_true":
        return f"[{flag}]"
    value = options.get("metavar") or "/".join(options["choices"])
    text = f"{flag} {value}"
    text = text if options.get("required") else f"[{text}]"
    return f"{text}…" if options.get("action") == "append" else text


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
