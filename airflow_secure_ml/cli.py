"""The command line: `secure-ml …`, and the same below `airflow secure-ml …`.

Both are made from one declaration. What a command does is imported when it runs, and Airflow never
by the console script: `secure-ml --help` costs what Python costs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from airflow_secure_ml import __version__
from airflow_secure_ml.commands.audit_parsers import AUDIT_COMMANDS
from airflow_secure_ml.commands.declaring import Command, Group
from airflow_secure_ml.commands.declaring import arg as _arg
from airflow_secure_ml.commands.declaring import command as _command

PROGRAM = "secure-ml"


_NAME = _arg("name", metavar="NAME", help="the key's name")
_VERSION = _arg("name", metavar="NAME[/VERSION]", help="the key, or one version of it")
_KEYS = _arg("--key", metavar="KEY", action="append", help="a key's name; may be given again")
_CONTEXT = _arg(
    "--context",
    metavar="K=V",
    action="append",
    help="a pair of the encryption context; may be given again",
)
_REPLACE = _arg("--replace", action="store_true", help="replace what lies at DST")
_KEEP_GOING = _arg(
    "--keep-going", action="store_true", help="with --recursive: go on past files that fail"
)
_THREADS = _arg(
    "--threads", type=int, metavar="N", help="with --recursive: so many files at once, 1 to 64"
)
_SIGNED_BY = _arg(
    "--signed-by",
    metavar="KEY",
    action="append",
    help="whose signature; may be given again; else [secure_ml] trusted_signers",
)
_UNSIGNED = _arg("--unsigned", action="store_true", help="demand nobody's signature")
_POST_QUANTUM = _arg(
    "--post-quantum",
    action="store_true",
    help="receive: ML-KEM-768 with X25519; sign: ML-DSA-65 beside Ed25519",
)
_PASSPHRASE_FILE = _arg(
    "--passphrase-file",
    metavar="FILE",
    help="the new passphrase, in a file of mode 0600; else it is asked for at the terminal",
)
_MIXED = _arg(
    "--mixed-strength",
    action="store_true",
    help="let a classical recipient stand beside a post-quantum one",
)
_ROOT = _arg(
    "--data-set",
    metavar="DIR",
    help="the data set that the file belongs to; else the nearest folder above it that is one",
)

_KEY_COMMANDS = (
    _command(
        "init",
        "make the keyring, its first keys, and the audit log's key",
        "keys.init",
        _arg("--passphrase", action="store_true", help="put the keyring under a passphrase"),
        _PASSPHRASE_FILE,
        _arg(
            "--post-quantum",
            action="store_true",
            help="sign the audit log with ML-DSA-65 beside Ed25519",
        ),
        _arg("--log-only", action="store_true", help="make the audit log's key alone"),
    ),
    _command(
        "passphrase",
        "put the keyring under a passphrase, or another one",
        "keys.passphrase",
        _PASSPHRASE_FILE,
        _arg("--remove", action="store_true", help="take the keyring out of its passphrase"),
    ),
    _command(
        "create",
        "make a key",
        "keys.create",
        _NAME,
        _arg(
            "--for",
            dest="purpose",
            choices=("wrap", "sign", "receive"),
            required=True,
            help="what it does; receive: others seal to its public half",
        ),
        _POST_QUANTUM,
    ),
    _command("list", "show keys, versions and states; never a key itself", "keys.list_keys"),
    _command(
        "rotate", "make a new version; older ones only open and verify", "rotation.rotate", _NAME
    ),
    _command("retire", "let it only open and verify from now on", "keys.retire", _VERSION),
    _command("enable", "take back disable or retire", "keys.enable", _VERSION),
    _command("disable", "let it do nothing until it is enabled", "keys.disable", _VERSION),
    _command(
        "destroy",
        "remove its bytes, forever: what only it opens is lost",
        "keys.destroy",
        _VERSION,
        _arg("--yes", action="store_true", help="do not ask"),
    ),
    _command(
        "usage",
        "count which versions open the sealed files below some paths, by data set",
        "rotation.usage",
        _NAME,
        _arg("paths", metavar="PATH", nargs="+", help="files and folders"),
    ),
    _command(
        "export-public",
        "print the public half of a key, for others to trust or to seal to",
        "keys.export_public",
        _NAME,
    ),
    _command(
        "trust",
        "accept somebody else's signatures, or seal to them: as their public key is for",
        "keys.trust",
        _arg("name", metavar="NAME", help="what to call them here"),
        _arg("file", metavar="FILE", help="what export-public printed, or PEM; - reads a pipe"),
    ),
)

COMMANDS: tuple[Command | Group, ...] = (
    Group("keys", "make and manage keys", _KEY_COMMANDS),
    _command(
        "seal",
        "seal a file, or all below a folder",
        "sealed.seal",
        _arg("source", metavar="SRC", help="a plain file; - reads a pipe"),
        _arg("target", metavar="DST", help="the sealed file; - writes a pipe"),
        _KEYS,
        _CONTEXT,
        _REPLACE,
        _arg(
            "--recursive",
            action="store_true",
            help="SRC and DST are folders: all below SRC is sealed under one data-set key and "
            "signed; begun again it goes on with what is left",
        ),
        _arg("--sign-key", metavar="KEY", help="with --recursive; else [secure_ml] signing_key"),
        _MIXED,
        _KEEP_GOING,
        _THREADS,
    ),
    _command(
        "open",
        "open a sealed file or folder; DST appears only when all of it was verified",
        "opening.open_sealed",
        _arg("source", metavar="SRC", help="a sealed file or folder; - reads a pipe"),
        _arg(
            "target",
            metavar="DST",
            help="the plain file; - writes a pipe: each part is verified before it is "
            "written, and only exit status 0 says that it was all",
        ),
        _CONTEXT,
        _arg("--any-context", action="store_true", help="demand nothing of the context"),
        _ROOT,
        _REPLACE,
        _arg(
            "--recursive",
            action="store_true",
            help="SRC is a sealed folder: its statement is verified, each file appears when it "
            "is the signed one, and begun again it goes on with what is left",
        ),
        _SIGNED_BY,
        _UNSIGNED,
        _KEEP_GOING,
        _THREADS,
    ),
    _command(
        "inspect",
        "show a sealed file's header, or count those below a folder, without a key; nothing in it "
        "is proved",
        "inspecting.inspect",
        _arg("file", metavar="PATH", help="a sealed file, or a folder"),
    ),
    _command(
        "rewrap",
        "change which keys open a sealed file; the list is complete",
        "rotation.rewrap",
        _arg("file", metavar="FILE", help="a sealed file, a data set's .asmk, or a folder"),
        _KEYS,
        _ROOT,
        _arg(
            "--recursive",
            action="store_true",
            help="FILE is a folder: give all below it the newest version of one key, and keep "
            "other keys' slots; in Vault without a right to read",
        ),
        _MIXED,
        _UNSIGNED,
    ),
    _command(
        "sign",
        "sign a file or folder as it is now",
        "signed.sign",
        _arg("path", metavar="PATH", help="what to sign"),
        _arg("--key", metavar="KEY", help="the sign key; else [secure_ml] signing_key"),
    ),
    _command(
        "verify",
        "require a signature over a file or folder as it is now",
        "signed.verify",
        _arg("path", metavar="PATH", help="what to verify"),
        _SIGNED_BY,
        _arg(
            "--recheck",
            action="store_true",
            help="read only files that may have changed since the last --recheck; finds what "
            "programs and other users change, not what root or a bad disk does",
        ),
    ),
    _command(
        "shred",
        "destroy the key of a sealed folder, forever, and leave a certificate of it",
        "erasure.shred",
        _arg("data_set", metavar="DIR", help="a sealed folder with a key of its own"),
        _arg("--reason", metavar="TEXT", required=True, help="why, in a few words; public"),
        _arg("--yes", action="store_true", help="do not ask"),
    ),
    _command(
        "certificates",
        "verify and show a sealed folder's certificates of destruction",
        "erasure.certificates",
        _arg("data_set", metavar="DIR", help="a folder that was shredded"),
        _SIGNED_BY,
    ),
    Group("audit", "the audit trail", AUDIT_COMMANDS),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `secure-ml`; returns the exit status.

    0 done · 1 refused · 2 wrong use or configuration · 3 another system failed.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Keys, sealed files, signatures and the audit trail."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    _add(parser, COMMANDS)
    parsed = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    return _run(parsed.command_path, parsed)


def get_cli_commands() -> list[Any]:
    """The same commands as Airflow's own classes, for `airflow secure-ml …`."""
    from airflow.cli import cli_config

    config: Any = cli_config

    def action(command: Command) -> Any:
        return config.ActionCommand(
            name=command.name,
            help=command.help,
            func=_under_airflow(command.run),
            args=[config.Arg(each.flags, **each.options) for each in command.arguments],
        )

    def made(entry: Command | Group) -> Any:
        if isinstance(entry, Command):
            return action(entry)
        return config.GroupCommand(
            name=entry.name, help=entry.help, subcommands=[action(each) for each in entry.commands]
        )

    return [
        config.GroupCommand(
            name=PROGRAM,
            help="Keys, sealed files, signatures and the audit trail",
            subcommands=[made(entry) for entry in COMMANDS],
        )
    ]


def _add(parser: argparse.ArgumentParser, entries: Sequence[Command | Group]) -> None:
    words = parser.add_subparsers(metavar="COMMAND", required=True)
    for entry in entries:
        below = words.add_parser(entry.name, help=entry.help, description=entry.help)
        if isinstance(entry, Group):
            _add(below, entry.commands)
            continue
        below.set_defaults(command_path=entry.run)
        for argument in entry.arguments:
            below.add_argument(*argument.flags, **argument.options)


def _under_airflow(run: str) -> Callable[[argparse.Namespace], None]:
    def call(parsed: argparse.Namespace) -> None:
        # So that connections of Airflow's database are found, as Airflow's own commands do it.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        sys.exit(_run(run, parsed))

    return call


def _run(run: str, parsed: argparse.Namespace) -> int:
    from airflow_secure_ml.commands.running import run_command

    return run_command(run, parsed)


if __name__ == "__main__":
    sys.exit(main())
