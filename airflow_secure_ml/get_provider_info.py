"""What Airflow is told about this package: name, commands, connection form, options of [secure_ml].

Imports nothing: every Airflow command calls it. An option that is not read by `settings` does not
stand here, and a test holds both, and docs/settings.md, equal.
"""

from __future__ import annotations


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata, as Airflow's provider_info.schema.json wants it."""
    return {
        "package-name": "airflow-secure-ml",
        "name": "Secure ML",
        "description": (
            "Secures machine-learning pipelines: data sealed at rest, signed artifacts, "
            "validated inputs, and an audit trail that cannot be changed unnoticed."
        ),
        "integrations": [{"integration-name": "Secure ML", "tags": ["service"]}],
        "connection-types": [
            {
                "connection-type": "vault_secure_ml",
                "hook-class-name": "airflow_secure_ml.hooks.vault_hook.VaultHook",
                "hook-name": "Vault (secure ML)",
                "conn-fields": vault_fields(),
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "extra"],
                    "relabeling": {
                        "host": "Vault address",
                        "login": "Role ID or user name",
                        "password": "Token, secret ID or password",
                    },
                    "placeholders": {"host": "https://vault.example.org:8200"},
                },
            }
        ],
        "secrets-backends": ["airflow_secure_ml.secrets.VaultBackend"],
        "db-managers": ["airflow_secure_ml.migrations.db_manager.TrailDBManager"],
        "cli": ["airflow_secure_ml.cli.get_cli_commands"],
        "config": {
            "secure_ml": {
                "description": "Keys, rules, scratch space and audit trail of airflow-secure-ml.",
                "options": _options(),
            }
        },
    }


def vault_fields() -> dict[str, dict[str, object]]:
    """Return the fields of a connection to Vault besides Airflow's own."""
    methods = ["token", "approle", "kubernetes", "jwt", "aws_iam", "cert", "userpass", "ldap"]
    return {
        "auth_type": _field("Way to log in", "How a token is got.", default="token", enum=methods),
        "auth_mount_point": _field(
            "Mount of that way", "Where it is mounted below auth/. Empty: at its usual name."
        ),
        "namespace": _field("Namespace", "Vault Enterprise's or OpenBao's. Empty: the root's."),
        "ca": _field(
            "CA file",
            "Path, on every worker, of the certificates that the server's must lead to. "
            "Empty: the certifi package's.",
        ),
        "allow_http": _field(
            "Allow plain http",
            "For tests only: whoever is on the way reads tokens and secrets. Each use is warned "
            "about, in the log and in the audit trail.",
            kind="boolean",
            default=False,
        ),
        "token_path": _field("token: file", "Path of the token, such as an agent's sink."),
        "secret_id_path": _field("approle: secret ID file", "Path of the secret ID."),
        "wrapped_secret_id": _field(
            "approle: wrapping token",
            "A wrapping token with the secret ID. It can be used once: by one process.",
            format="password",
        ),
        "wrapped_secret_id_path": _field(
            "approle: wrapping token file", "Path of a wrapping token with the secret ID."
        ),
        "approle_name": _field(
            "approle: role name",
            "The role that a wrapped secret ID must have been made for. Empty: any role's.",
        ),
        "kubernetes_role": _field("kubernetes: role", "The role in Vault."),
        "kubernetes_jwt_path": _field(
            "kubernetes: token file",
            "Path of the service account's token. Empty: where a pod has it.",
        ),
        "jwt_role": _field("jwt: role", "The role in Vault. Empty: the method's default role."),
        "jwt_token_path": _field("jwt: file", "Path of the JWT; read anew at each login."),
        "jwt_token": _field("jwt: token", "The JWT itself.", format="password"),
        "role_id": _field("aws_iam: role", "The role in Vault. Empty: the principal's name."),
        "region": _field("aws_iam: region", "Where AWS is asked. Empty: us-east-1."),
        "aws_server_id": _field(
            "aws_iam: server ID",
            "What Vault expects in the signed header X-Vault-AWS-IAM-Server-ID. Empty: nothing.",
        ),
        "aws_assume_role": _field(
            "aws_iam: role to become", "ARN of an AWS role to become first. Empty: none."
        ),
        "client_cert": _field("cert: certificate", "Path of the client certificate, PEM."),
        "client_key": _field(
            "cert: key", "Path of its key, PEM, without a password. Empty: in the same file."
        ),
        "cert_role": _field("cert: role", "The role in Vault. Empty: any that fits."),
        "timeout_s": _field(
            "Seconds for one request", "Connecting and answering each.", kind="number", default=10
        ),
        "deadline_s": _field(
            "Seconds for one act", "All tries and waits together.", kind="number", default=30
        ),
    }


def _field(
    label: str,
    description: str,
    *,
    kind: str = "string",
    default: object = None,
    **schema: object,
) -> dict[str, object]:
    given = {"type": [kind, "null"], **schema}
    if default is not None:
        given["default"] = default
    return {"label": label, "description": description, "schema": given}


def _options() -> dict[str, dict[str, object]]:
    return {
        "key_system": _option(
            "local://{AIRFLOW_HOME}/secure_ml/keyring.json",
            "Where keys are kept. `local:///path` is a key file; it is only ever made by "
            "`airflow secure-ml keys init`, and a missing file is an error. "
            "`vault://transit?conn_id=vault_default` is Vault's Transit engine at that mount; "
            "`&key=name` there, in key_names, is the key's name in Transit where it differs.",
            example="local:///etc/airflow/secure_ml/keyring.json",
        ),
        "data_key": _option(
            "data", "Name of the key that seals an output which names no key of its own."
        ),
        "signing_key": _option("pipeline", "Name of the key that signs every output."),
        "trusted_signers": _option(
            "pipeline",
            "Names of the keys, separated by commas, whose signature on an input is accepted "
            "where neither the task nor a rule says whose.",
            example="pipeline, release",
        ),
        # Empty, not {}: Airflow formats a default with str.format, which fails on {}.
        "key_names": _option(
            "",
            "A JSON object that says in which other key system a name lies: name to address. "
            "`hpke:…` is somebody's public key to seal to, as `keys export-public` prints it. "
            "Empty: every name lies in key_system.",
            example='{"partner": "local:///etc/airflow/secure_ml/partner.json"}',
        ),
        "key_groups": _option(
            "",
            "A JSON object of names that stand for several keys: what is sealed to such a name "
            "opens with each of them. Empty: a name is one key.",
            example='{"partners": ["data", "ann", "bob"]}',
        ),
        "keyring_passphrase_path": _option(
            "",
            "Path of a file, mode 0600, with the passphrase of keyrings, such as a mounted secret "
            "of the orchestrator; a keyring under none is refused then. Empty: keyrings have "
            "none, or a person is asked at a terminal.",
            example="/run/secrets/secure_ml_passphrase",
        ),
        "policy_file": _option(
            "",
            "Path of a TOML file with the rules for data by prefix. Empty: no rules.",
            example="/etc/airflow/secure_ml.toml",
        ),
        "crypto_policy": _option(
            "",
            "A JSON object with `write` and `read`, each with any of `suites`, `slots`, "
            "`signatures`, `digests`: what may be written, and what may still be read. Empty: "
            "files are written in suite aes256-gcm-1mb, and all else is allowed. "
            "docs/crypto-policy.md has the names.",
            example='{"write": {"suites": ["cobblestone-256"]}}',
        ),
        "vault_conn_id": _option(
            "vault_default",
            "The Airflow connection to Vault, where neither a lease nor a key system names "
            "another.",
        ),
        "aws_conn_id": _option(
            "aws_default",
            "The Airflow connection, of type aws, of S3 and KMS where no other is named. Empty: no "
            "connection; boto3 finds credentials and region.",
        ),
        "s3_connections": _option(
            "",
            "Buckets that are reached through another connection, with its id; a JSON object. It "
            "goes before aws_conn_id, and an address with conn_id@ before both.",
            example='{"models": "aws_models"}',
        ),
        "pkcs11_module": _option(
            "",
            "Path, on every worker, of the library that leads to the PKCS#11 tokens of key "
            "addresses pkcs11://. It is code that runs in every task. Empty: none.",
            example="/usr/lib/softhsm/libsofthsm2.so",
        ),
        "pkcs11_pin_path": _option(
            "",
            "Path of a file, mode 0600, with the PIN of their user. It must belong to the user "
            "that tasks run as, or to root. Empty: none.",
            example="/etc/airflow/secure_ml/pin",
        ),
        "xcom_key": _option(
            "", "Name of the wrap key of sealed XCom values. Empty: data_key.", example="xcom"
        ),
        "xcom_keys_dir": _option(
            "{AIRFLOW_HOME}/secure_ml/xcom_keys",
            "Directory of the wrapped keys, one a DAG, of sealed XCom values; shared by all "
            "workers. Without it the values cannot be read.",
        ),
        "xcom_read_unsealed": _option(
            "true",
            "Whether the sealing XCom back end reads values that were written before it was set. "
            "Set it to false once none is left.",
            kind="boolean",
        ),
        "scratch_dirs": _option(
            "/dev/shm",  # noqa: S108 - memory, with a private directory of random name inside
            "Directories, separated by commas, for opened data; the first with room is taken. "
            "They should be in memory (tmpfs): any other file system is warned about. "
            "Containers have 64 MiB in /dev/shm unless told otherwise.",
            example="/dev/shm, /mnt/scratch",  # noqa: S108 - as above
        ),
        "digest_memory_dir": _option(
            "{AIRFLOW_HOME}/secure_ml/digests",
            "Directory of the digests that `secure-ml verify --recheck` remembers, made with mode "
            "0700. Nothing in it is signed: whoever can write there can have altered files pass "
            "such a check.",
        ),
        "audit_dir": _option(
            "{AIRFLOW_HOME}/secure_ml/audit",
            "Directory of the audit trail: spool and store. A local file system.",
        ),
        "audit_spare_dir": _option(
            "",
            "Directory on another file system, where the spool goes on when audit_dir is full. "
            "Empty: none.",
        ),
        "audit_subjects_dir": _option(
            "",
            "Directory of the keys that open what hidden values hide, such as who did something: "
            "destroying a person's key erases their name from the log and from each copy of it. "
            "Keep it out of the log's backups. Empty: `subjects` in audit_dir.",
        ),
        "audit_signer_dir": _option(
            "{AIRFLOW_HOME}/secure_ml/signer",
            "Directory of the log key and of the last signed checkpoint. Only the sequencer "
            "reads it; where it runs as another user, tasks must not be able to.",
        ),
        "audit_signer": _option(
            "local",
            "Where `keys init` and `audit rotate-key` take the log's Ed25519 key from: `local` "
            "makes one in audit_signer_dir; vault://<mount>?key=<name> and awskms://<key> name "
            "one that is used for nothing else, and need audit_signer_socket: docs/audit-keys.md.",
            example="vault://transit?key=audit-log&conn_id=vault_audit",
        ),
        "audit_collector": _option(
            "",
            "Socket of a collector that runs as another user; events go there, and no sequencer "
            "is started here: docs/collector.md. Empty: the spool in audit_dir.",
            example="/run/secure-ml/collector.sock",
        ),
        "audit_spool": _option(
            "local",
            "Where events wait for the sequencer: `local`, the spool in audit_dir; `shared`, the "
            "same in a volume that outlives the worker; `push`, handed over to audit_inbox or "
            "audit_ingest_url before the task may go on: docs/audit-on-kubernetes.md.",
        ),
        "audit_inbox": _option(
            "",
            "With audit_spool = push: the database of audit_store, with a login that may only add "
            "to its inbox (role asml_worker). Empty: audit_ingest_url.",
            example="postgresql://asml_worker@db.example.org:5432/trail",
        ),
        "audit_inbox_passfile": _option(
            "",
            "Path of a pass file of libpq's, mode 0600, with the password of that login. Empty: "
            "none.",
            example="/run/secrets/inbox_pgpass",
        ),
        "audit_ingest_url": _option(
            "",
            "With audit_spool = push: where an API server takes events, `https://…/secure-ml/"
            "ingest`; http to this machine alone. Empty: audit_inbox.",
            example="https://airflow.example.org/secure-ml/ingest",
        ),
        "audit_ingest_token_path": _option(
            "",
            "Path of a file, mode 0600 or 0440, with the token that `secure-ml audit ingest-token` "
            "made; the API server lets in who has the same, or its file has a line for each team. "
            "Empty: nobody.",
            example="/run/secrets/ingest_token",
        ),
        "audit_signer_socket": _option(
            "",
            "Path of the Unix socket of `secure-ml audit signer`, a process of its own that alone "
            "has the log's key, best under a user of its own. Empty: the sequencer has the key.",
            example="/run/secure-ml-signer/signer.sock",
        ),
        "audit_log_name": _option(
            "airflow",
            "First part of the log's name, as checkpoints carry it; taken once, when "
            "`airflow secure-ml keys init` makes the log. A domain that is yours is best.",
            example="example.org",
        ),
        "audit_log_keys": _option(
            "",
            "Keys that may have signed checkpoints: lines of `vkey from_size to_size`, `-` as the "
            "last size of a key in use. Empty: the public half in audit_signer_dir.",
        ),
        "audit_store": _option(
            "sqlite",
            "Where the sequenced log lies: `sqlite`, a file in audit_dir, or a database, "
            "`postgresql://user@host:port/database`, over TLS with the server's certificate and "
            "name checked unless it is on this machine. A password in it is refused. Each "
            "component can have a login of its own: docs/audit-in-postgresql.md.",
            example="postgresql://asml_reader@db.example.org:5432/trail",
        ),
        "audit_store_passfile": _option(
            "",
            "Path of a pass file of libpq's, mode 0600, with the password of that login. Empty: "
            "none, the login needs no password.",
            example="/run/secrets/trail_pgpass",
        ),
        "audit_witnesses": _option(
            "",
            "Witnesses that cosign every checkpoint: lines of `vkey url`, or `vkey url "
            "path-of-certificates` where the system does not trust its certificate. Over TLS, "
            "unless it is on this machine. Empty: none.",
            example="witness.example/w1+20324abe+BCms… https://witness.example",
        ),
        "audit_witness_quorum": _option(
            "1",
            "How many of the witnesses have to have cosigned before the trail says `witnessed`.",
            kind="integer",
        ),
        "audit_anchor": _option(
            "",
            "Where the first checkpoint and one each hour are locked (COMPLIANCE): a prefix for "
            "this log alone, in a bucket with object lock. Empty: nowhere.",
            example="s3://anchors/trail",
        ),
        "audit_anchor_days": _option(
            "365",
            "How many days an anchor is locked; a store that keeps its word never shortens that.",
            kind="integer",
        ),
        "audit_timestamp_url": _option(
            "",
            "A time-stamping authority (RFC 3161) that stamps the first checkpoint and one each "
            "hour: `url`, or `url policy` where its stamps have to name that policy. Over TLS, "
            "unless it is on this machine. Needs the extra `timestamps`. Empty: none.",
            example="https://tsa.example/tsr",
        ),
        "audit_timestamp_ca": _option(
            "",
            "Path of the certificates that time stamps have to lead to, PEM.",
            example="/etc/airflow/tsa_ca.pem",
        ),
        "siem_url": _option(
            "",
            "A web hook that every event of the log is posted to, at least once and in order: "
            "https, or http to this machine. Empty: none.",
            example="https://siem.example.org/services/collector/raw",
        ),
        "siem_events": _option(
            "all",
            "What siem_url and siem_syslog get: `all` events, or `alerts` alone and what is said "
            "to them.",
        ),
        "siem_format": _option(
            "ocsf",
            "What siem_url takes: `ocsf` (a JSON object a line), `cloudevents` (batches) or `otlp` "
            "(OpenTelemetry logs; `/v1/logs` where siem_url has no path).",
        ),
        "siem_syslog": _option(
            "",
            "A syslog receiver over TLS that every event is sent to as CEF. Empty: none.",
            example="siem.example.org:6514",
        ),
        "siem_ca": _option(
            "",
            "Path of the certificates to trust for siem_url and siem_syslog, PEM. Empty: those of "
            "the system.",
            example="/etc/airflow/siem_ca.pem",
        ),
        "siem_token_path": _option(
            "",
            "Path of a file, mode 0600, with the bearer token for siem_url, read for each batch.",
            example="/run/secrets/siem_token",
        ),
        "audit_rules_dir": _option(
            "",
            "A directory of alert rules of your own, Sigma files (`*.yml`), beside those that come "
            "with the package; one of the same name takes its place. Empty: none.",
            example="/etc/airflow/alert_rules",
        ),
        "audit_rules_off": _option(
            "",
            "Names of alert rules that are not evaluated, separated by commas; `all`: none is, and "
            "no alert is raised by a rule. `secure-ml audit rules` lists them.",
            example="recordings_cut, new_dag_for_key",
        ),
        "alert_notifier": _option(
            "",
            "Path of an Airflow notifier that the relay tells of each new alert: an instance, or a "
            "class or function that makes one without arguments. Empty: none.",
            example="my_alerts.notifier",
        ),
        "alert_notifier_level": _option(
            "medium",
            "The least level that alert_notifier is told of: informational, low, medium, high or "
            "critical.",
        ),
        "audit_retention_days": _option(
            "0",
            "How many days events keep their bytes at least: what `secure-ml audit prune` takes "
            "without --older-than; fewer than these are refused. Nothing is removed by itself: "
            "docs/retention-of-the-trail.md. 0: --older-than has to be given.",
            kind="integer",
        ),
        "audit_hide": _option(
            "",
            "Fields of events, separated by commas, whose text is kept aside and can be erased, "
            "as dotted names.",
            example="object.uri, run.task",
        ),
        "audit_unavailable": _option(
            "refuse",
            "What a task does when its acts cannot be recorded: refuse, or continue, counted.",
        ),
        "listener": _option(
            "true",
            "Whether Airflow's own callbacks are recorded as a second vantage point. "
            "DAGs that use end_from_trigger need false.",
            kind="boolean",
        ),
        "reconcile_every_s": _option(
            "300",
            "How often, in seconds, a process beside the scheduler holds Airflow's task tries "
            "against the trail. 0: never. The listener starts it.",
            kind="integer",
        ),
        "record_reads": _option(
            "true",
            "Whether the API server records who reads XCom values, connections, variables, logs "
            "and rendered fields, who logs in, is denied or edits.",
            kind="boolean",
        ),
    }


def _option(
    default: str, description: str, *, example: str | None = None, kind: str = "string"
) -> dict[str, object]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "default": default,
        "example": example,
    }
