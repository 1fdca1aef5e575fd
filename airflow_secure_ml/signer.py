"""The signer as a program: `python -I -m airflow_secure_ml.signer`.

It alone has the log's keys and the record of what they signed last; the sequencer asks it over a
Unix socket. A key that lies in Vault or AWS KMS is reached from here and nowhere else, by a
connection of this process's environment, or of Airflow under `airflow secure-ml audit signer`.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.log_signer import KeyElsewhere
    from airflow_secure_ml.core.ports import Signer, Verifier

log = logging.getLogger("airflow_secure_ml.signer")

READY = "READY\n"
LOCAL = "local"
VAULT_CONN_ID, AWS_CONN_ID = "vault_default", "aws_default"
_NAME = "log"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the signer until SIGTERM; returns the exit status.

    0: done. 1: its record is not what its key signed. 2: wrong configuration. 3: the socket or a
    key system cannot be reached.
    """
    from airflow_secure_ml.errors import ConfigurationError, SecureMLError, ServiceError

    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        _serve(options)
    except (SecureMLError, OSError) as error:
        log.error("%s", error)
        if isinstance(error, ConfigurationError):
            return 2
        return 3 if isinstance(error, (ServiceError, OSError)) else 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="airflow_secure_ml.signer", description=__doc__)
    parser.add_argument("--signer-dir", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument(
        "--allow-uid", type=int, action="append", default=[], help="who may ask; else this user"
    )
    parser.add_argument("--vault-conn-id", default=VAULT_CONN_ID)
    parser.add_argument("--aws-conn-id", default=AWS_CONN_ID)
    return parser.parse_args(arguments)


def _serve(options: argparse.Namespace) -> None:
    from airflow_secure_ml.adapters.log_signer import LogSigner
    from airflow_secure_ml.adapters.log_signer.serving import SignerServer, listening, only_program

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    find = KeySystems(vault_conn_id=options.vault_conn_id, aws_conn_id=options.aws_conn_id).find
    signer = LogSigner(options.signer_dir, find)
    uids = {os.geteuid(), *options.allow_uid}
    with (
        only_program(options.signer_dir),
        listening(options.socket, is_shared=len(uids) > 1) as listener,
    ):
        sys.stdout.write(READY)
        sys.stdout.flush()
        log.info("signing for %s at %s, asked by uids %s", signer.origin, options.socket, uids)
        SignerServer(signer, options.signer_dir, uids).serve(listener, stopped.is_set)


class _SignKeys(Protocol):
    """A key system, as far as it signs."""

    def signer_of(self, name: str, public_key: bytes) -> Signer:
        """The version of a sign key that has this public half."""

    def verifiers(self, names: Collection[str]) -> Sequence[Verifier]:
        """Every version in use, newest first."""


class KeySystems:
    """Where a log's Ed25519 key may lie besides a file.

    Args:
        vault_conn_id: The connection of a Vault address that names none.
        aws_conn_id: The connection of a KMS address that names none.
    """

    def __init__(self, *, vault_conn_id: str, aws_conn_id: str) -> None:
        self._vault_conn_id, self._aws_conn_id = vault_conn_id, aws_conn_id
        self._open: dict[str, _SignKeys] = {}

    def key_at(self, address: str) -> KeyElsewhere:
        """The newest version of the key at an address, to make a log with or to hand it to.

        Raises:
            ConfigurationError: No such address, or no connection leads there.
            ServiceError: The key system says no, or does not answer.
        """
        from airflow_secure_ml.adapters.log_signer import KeyElsewhere

        # A list of one key begins with its newest version.
        public_key = bytes(self._keys(address).verifiers([_NAME])[0].public_key)
        return KeyElsewhere(
            address=address, public_key=public_key, sign=self.find(address, public_key)
        )

    def find(self, address: str, public_key: bytes) -> Callable[[bytes], bytes]:
        """What signs with the key at an address, as long as its public half is this one."""

        def sign(message: bytes) -> bytes:
            # Asked for by its public half: a newer version there is not this log's key.
            return self._keys(address).signer_of(_NAME, public_key).sign(message)

        return sign

    def _keys(self, address: str) -> _SignKeys:
        from airflow_secure_ml.errors import ConfigurationError

        if address not in self._open:
            if address.startswith("vault://"):
                self._open[address] = self._in_vault(address)
            elif address.startswith("awskms://"):
                self._open[address] = self._in_kms(address)
            else:
                raise ConfigurationError(
                    "[secure_ml] audit_signer: expected local, vault://<mount>?key=<name> or "
                    "awskms://<key>"
                )
        return self._open[address]

    def _in_vault(self, address: str) -> _SignKeys:
        from airflow_secure_ml.adapters.vault.transit import VaultTransit
        from airflow_secure_ml.adapters.vault.transit_address import parse_vault_address
        from airflow_secure_ml.errors import ConfigurationError
        from airflow_secure_ml.hooks.vault import vault_client

        at = parse_vault_address(address, default_conn_id=self._vault_conn_id)
        if at.key is None:
            raise ConfigurationError(
                f"[secure_ml] audit_signer: vault://{at.mount}: expected &key=<name> besides: the "
                "log's key signs nothing else, so it is named"
            )
        return VaultTransit(partial(vault_client, at.conn_id), at.mount, names={_NAME: at.key})

    def _in_kms(self, address: str) -> _SignKeys:
        from airflow_secure_ml.adapters.aws.kms_address import parse_kms_address
        from airflow_secure_ml.adapters.aws.kms_client import KmsClient
        from airflow_secure_ml.adapters.aws.kms_keys import KmsKeys
        from airflow_secure_ml.errors import ConfigurationError
        from airflow_secure_ml.hooks.aws import aws_session

        at = parse_kms_address(address, default_conn_id=self._aws_conn_id)
        # The address is written beside the key: nothing in it may be a secret.
        if at.key is None or at.grant_token is not None:
            raise ConfigurationError(
                "[secure_ml] audit_signer: expected awskms://<alias, id or ARN of one key>, "
                "without a grant token"
            )
        client = KmsClient(partial(aws_session, at.conn_id), region=at.region)
        return KmsKeys(client, names={_NAME: at.key})


if __name__ == "__main__":
    sys.exit(main())
