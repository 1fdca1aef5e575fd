"""The commands below `audit`, declared.

Source: AUDIT_TRAIL.
"""

from __future__ import annotations

from airflow_secure_ml.commands.declaring import arg, command

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
    ),
    command(
        "adopt",
        "go on with a log whose record of what was signed last is lost",
        "audit.adopt",
        arg("--yes", action="store_true", help="do not ask"),
    ),
    command(
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
)
