"""The commands below `audit`, declared.

Source: AUDIT_TRAIL.
"""

from __future__ import annotations

from airflow_secure_ml.commands.declaring import arg, command

_SIZE = arg(
    "--size",
    type=int,
    metavar="N",
    help="under the newest checkpoint over at most N leaves; else the newest",
)

AUDIT_COMMANDS = (
    command(
        "verify",
        "derive the whole log anew; exit 1 tampered, 4 incomplete, 5 cannot tell",
        "audit.verify",
        arg(
            "--checkpoint",
            metavar="FILE",
            help="a checkpoint kept elsewhere; only it shows a log rolled back with its signer",
        ),
        arg(
            "--anchor",
            action="store_true",
            help="hold the log against the checkpoints that audit_anchor keeps locked",
        ),
    ),
    command(
        "show",
        "show events, newest last",
        "audit.show",
        arg("--limit", type=int, default=50, metavar="N", help="at most so many (50)"),
        arg("--dag", metavar="DAG", help="of one DAG"),
        arg("--run", metavar="RUN", help="of one DAG run"),
        arg("--task", metavar="TASK", help="of one task"),
        arg("--act", metavar="ACT", action="append", help="an activity, or its start: object."),
        arg(
            "--result",
            action="append",
            choices=("ok", "refused", "failed", "unknown", "intent"),
            help="with this result; may be given again",
        ),
        arg("--uri", metavar="ADDRESS", help="about one object"),
        arg("--all", action="store_true", help="the trail's own events too"),
    ),
    command(
        "sequencer",
        "put recorded events into the log, until stopped",
        "audit.sequencer",
        arg("--once", action="store_true", help="take what is there, sign it, end"),
        arg("--standby", action="store_true", help="wait for another one's end, then take over"),
        arg("--collector", action="store_true", help="also follow what a collector here took"),
    ),
    command(
        "ingest-token",
        "make the token by which workers hand events over to an API server",
        "audit_ingest.ingest_token",
        arg("--team", metavar="NAME", help="only this team's; its name goes with what it sends"),
        arg("--to", metavar="FILE", help="where a team's token is written"),
    ),
    command(
        "collector",
        "take the events of other users' processes, over a socket, until stopped",
        "audit_collector.collector",
        arg("--socket", metavar="PATH", required=True, help="where it listens: audit_collector"),
        arg(
            "--allow-uid",
            type=int,
            metavar="UID",
            action="append",
            help="only this user may send; may be given again; else whoever reaches the socket",
        ),
    ),
    command(
        "signer",
        "sign the log for its sequencer, over a socket, until stopped",
        "log_keys.signer",
        arg(
            "--allow-uid",
            type=int,
            metavar="UID",
            action="append",
            help="the sequencer's user, beside this one; may be given again",
        ),
    ),
    command(
        "rotate-key",
        "let a new key sign the log from its next checkpoint on; the one before is destroyed",
        "log_keys.rotate_key",
        arg(
            "--post-quantum",
            action="store_true",
            help="sign with ML-DSA-65 besides from then on; kept once it is so",
        ),
    ),
    command(
        "migrate",
        "make or bring up to date the log's tables in PostgreSQL, by their owner",
        "migrating.migrate_log",
    ),
    command(
        "erase",
        "erase a person: events and proofs stay, and name nobody any more",
        "audit_erasure.erase",
        arg(
            "--person",
            metavar="NAME",
            required=True,
            help="the name as it was recorded; - reads it from standard input",
        ),
        arg("--yes", action="store_true", help="do not ask"),
    ),
    command(
        "prune",
        "remove the bytes of old events; hashes, proofs and the verdict stay",
        "audit_pruning.prune",
        arg(
            "--older-than",
            type=int,
            metavar="DAYS",
            help="what was in the log that long ago, by the sequencer's clock; without: "
            "audit_retention_days",
        ),
        arg("--archive", metavar="ADDRESS", help="first written there: s3://bucket/prefix, DIR"),
        arg("--because", metavar="TEXT", help="why, for the trail"),
        arg("--yes", action="store_true", help="do not ask"),
    ),
    command(
        "hold",
        "keep events from pruning (add), let them go again (release), list what is kept",
        "audit_pruning.hold",
        arg(
            "what",
            metavar="ACTION",
            choices=("add", "release", "list"),
            help="add, release or list",
        ),
        arg("name", metavar="NAME", nargs="?", help="the hold's name"),
        arg("--since", metavar="TIME", help="events from this time on; else all that are there"),
        arg("--from-leaf", type=int, metavar="INDEX", help="events from this leaf on"),
        arg("--because", metavar="TEXT", help="why, for the trail"),
    ),
    command(
        "adopt",
        "go on with a log whose record of what was signed last is lost",
        "audit.adopt",
        arg("--yes", action="store_true", help="do not ask"),
    ),
    command(
        "rules",
        "list the alert rules in force; one that is not evaluated as it stands is an error",
        "audit_rules.rules",
        arg("--dir", metavar="DIR", help="check the rules of this directory; else audit_rules_dir"),
    ),
    command(
        "relay",
        "hold events against the alert rules, hand them and checkpoints on, until stopped",
        "audit_witnesses.relay",
        arg("--once", action="store_true", help="ask each once, then end"),
    ),
    command(
        "witness",
        "be a witness for other hosts' logs, until stopped",
        "audit_witnesses.witness",
        arg("--dir", metavar="DIR", required=True, help="its key, logs and memory"),
        arg("--init", metavar="NAME", help="make its key, with this name, and end"),
        arg("--listen", metavar="HOST:PORT", help="where it answers (127.0.0.1:7380)"),
        arg("--tls-cert", metavar="PEM", help="its certificate; without one it is plain HTTP"),
        arg("--tls-key", metavar="PEM", help="the certificate's key"),
    ),
    command(
        "checkpoint",
        "print the newest witnessed checkpoint with its cosignatures, to be kept elsewhere",
        "audit_witnesses.checkpoint",
        arg("--newest", action="store_true", help="the newest one, whoever cosigned it"),
    ),
    command(
        "reconcile",
        "hold Airflow's task tries against the trail; exit 4 where they differ",
        "reconcile.reconcile",
        arg(
            "--since",
            metavar="TIME",
            help="from this time on: 2026-11-22T03:00Z, or 90m, 24h, 7d ago; else where the "
            "newest check ended",
        ),
        arg("--until", metavar="TIME", help="before this time; else now"),
        arg("--every-s", type=int, metavar="N", help="again every N seconds, until stopped"),
    ),
    command(
        "compare-vault",
        "hold the log of Vault's file audit device against the trail; exit 4 where they differ, "
        "5 where it cannot be told",
        "vault_agreement.compare_vault",
        arg("files", metavar="FILE", nargs="+", help="the log's files, the oldest first; also .gz"),
        arg("--since", metavar="TIME", help="from this time on: 2026-11-22T03:00Z, or 24h ago"),
        arg("--until", metavar="TIME", help="before this time"),
        arg(
            "--tolerance-s",
            type=float,
            default=5.0,
            metavar="N",
            help="how far the clocks of both sides may differ (5)",
        ),
        arg(
            "--key",
            metavar="MOUNT/NAME",
            action="append",
            help="only this key and those that the trail names; else every key of its mounts",
        ),
        arg(
            "--path",
            metavar="PATH",
            action="append",
            help="a lease's or secret's path, beside those that the trail names",
        ),
        arg("--namespace", metavar="NAME", default="", help="of Vault; else the root's"),
        arg("--conn-id", metavar="ID", help="whose log it is, where keys lie in several Vaults"),
    ),
    command(
        "export",
        "give the log away as tlog-tiles, or events of it as an evidence pack",
        "audit_exports.export",
        arg("--tiles", metavar="DIR", help="the whole log; a broken-off export is gone on with"),
        arg("--pack", metavar="FILE.zip", help="events with their proofs; without filters all"),
        arg("--dag", metavar="DAG", help="of one DAG"),
        arg("--run", metavar="RUN", help="of one DAG run"),
        arg("--task", metavar="TASK", help="of one task"),
        arg("--act", metavar="ACT", action="append", help="an activity, or its start: object."),
        arg(
            "--result",
            action="append",
            choices=("ok", "refused", "failed", "unknown", "intent"),
            help="with this result; may be given again",
        ),
        arg("--uri", metavar="ADDRESS", help="about one object"),
        arg("--since", metavar="TIME", help="from this time on, such as 2026-11-22T03:00Z"),
        arg("--until", metavar="TIME", help="before this time"),
        arg("--values", action="store_true", help="what lies behind hidden values, too"),
        arg("--kept", metavar="FILE", help="a reader's older checkpoint; shows it is a beginning"),
        _SIZE,
    ),
    command(
        "prove",
        "print one event's proof, for a file x.tlog-proof",
        "audit_exports.prove",
        arg("event", metavar="EVENT", help="its name, <emitter>:<seq>, or its leaf's index"),
        _SIZE,
    ),
    command(
        "check-proof",
        "check a .tlog-proof with the log's public keys",
        "audit_exports.check_proof",
        arg("file", metavar="FILE", help="the proof"),
        arg("--keys", metavar="FILE", help="log keys from elsewhere; else those known here"),
        arg("--event", metavar="FILE", help="the event's bytes, where the proof has none"),
    ),
)
