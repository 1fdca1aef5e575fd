"""Rotation as visible steps: a new version, everything rewrapped, and what is still in use.

Returns plain records, never a key. Each act is an event before it happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_secure_ml.deployment import Deployment
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.operators.fields import Address, as_text, rendered_address
from airflow_secure_ml.operators.telling import told
from airflow_secure_ml.securing.key_acting import KeyOperator, key_name
from airflow_secure_ml.services.key_rotation import retire_unused, rotate_key
from airflow_secure_ml.services.key_usage import KeyUsage, count_usage
from airflow_secure_ml.services.rewrapping_below import rewrap_below
from airflow_secure_ml.services.rotation_places import places_to_rewrap


class RotateKeyOperator(KeyOperator):
    """Give a key a new version; the ones before it only open and verify from now on.

    Returns `{"key": name, "version": number}`.

    Args:
        key: The key's name; one that seals or one that signs.
    """

    template_fields: Sequence[str] = ("key",)

    def __init__(self, *, key: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.key = key

    def execute(self, context: Any) -> dict[str, Any]:
        """Rotate; an answer that was lost is not asked for twice."""
        with self.acting(context) as (here, work):
            name = key_name(self.key)
            work.desk.still_ours()
            made = rotate_key(here.keys, name, work.journal)
            work.journal.tell(f"rotated {name}: its newest version is {made.version}")
            return {"key": made.name, "version": int(made.version)}


class RewrapArtifactOperator(KeyOperator):
    """Give every sealed object below an address the newest version of a key.

    In Vault that happens blind: a role that may only rewrap can do it, and read nothing. A data
    set is one small file, its payload is not touched, and signatures stay valid. Begun again, it
    goes on with what is left. Returns counts.

    Args:
        prefix: Address of a folder, or of one object.
        key: The key's name; slots of other keys stay as they are.
    """

    template_fields: Sequence[str] = ("prefix", "key")

    def __init__(self, *, prefix: Address, key: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prefix, self.key = as_text(prefix), key

    def execute(self, context: Any) -> dict[str, Any]:
        """Rewrap; one object that fails keeps none of the others, and fails the task at the end."""
        with self.acting(context) as (here, work):
            uri, name = here.canonical(rendered_address("prefix", self.prefix)), key_name(self.key)
            tally = rewrap_below(
                here.store(uri),
                uri,
                keys=here.keys,
                name=name,
                trail=work.journal,
                progress=told(work, "sealed objects"),
            )
            work.journal.tell(
                f"rewrapped {uri}: {tally.rewrapped} objects with {name}/{tally.newest}, "
                f"{tally.already} had it, {tally.failed} failed"
            )
            tally.raise_failures(uri)
            return {
                "prefix": uri,
                "key": name,
                "version": tally.newest,
                "rewrapped": tally.rewrapped,
                "already": tally.already,
                "others": tally.others,
            }


class FindSealedOperator(KeyOperator):
    """List the places below an address where older versions of a key are in use.

    Data sets, and folders of sealed files; none lies in another, so tasks can share them out:
    `RewrapArtifactOperator.partial(key=…).expand(prefix=found.output)`. Needs no key, but a right
    to ask for the key's versions. Returns addresses.

    Args:
        prefix: Address of a folder, or of one object.
        key: The key's name.
    """

    template_fields: Sequence[str] = ("prefix", "key")

    def __init__(self, *, prefix: Address, key: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prefix, self.key = as_text(prefix), key

    def execute(self, context: Any) -> list[str]:
        """Look; nothing is changed."""
        with self.acting(context) as (here, work):
            uri, name = here.canonical(rendered_address("prefix", self.prefix)), key_name(self.key)
            found = places_to_rewrap(
                here.store(uri),
                uri,
                keys=here.keys,
                name=name,
                progress=told(work, "objects"),
            )
            work.journal.tell(f"{uri}: older versions of {name} are in use at {len(found)} places")
            return found


class KeyUsageOperator(KeyOperator):
    """Say which versions of a key are in use, and retire the older ones if nothing needs them.

    Returns what was counted, with `retired_below`: the oldest version that is left, or None.

    Retiring (in Vault: raising min_decryption_version) takes two counts of everything below
    `prefixes`, and the keys of sealed XCom values where this key wraps them. Name every place
    where the key is used: what lies elsewhere with an older version does not open afterwards,
    until whoever manages the key takes the step back.

    Args:
        key: The name of a key that seals.
        prefixes: Addresses of folders and objects.
        retire_unused: Whether versions that nothing needs are retired.
    """

    template_fields: Sequence[str] = ("key", "prefixes", "retire_unused")

    def __init__(
        self,
        *,
        key: str,
        prefixes: Address | Sequence[Address],
        retire_unused: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.key, self.retire_unused = key, retire_unused
        # What comes from another task is looked at when it is there.
        self.prefixes: Any = as_text(prefixes)
        if isinstance(prefixes, list | tuple):
            self.prefixes = [as_text(each) for each in prefixes]

    def execute(self, context: Any) -> dict[str, Any]:
        """Count, and retire if it was asked for."""
        with self.acting(context) as (here, work):
            name, is_asked = key_name(self.key), _flag(self.retire_unused)
            uris = _places(here, name, self.prefixes)

            def count() -> KeyUsage:
                return count_usage(
                    here.store,
                    uris,
                    keys=here.keys,
                    name=name,
                    progress=told(work, "sealed objects"),
                )

            left = None
            if is_asked:
                work.desk.still_ours()
                usage, left = retire_unused(here.keys, name, count, work.journal)
            else:
                usage = count()
            for each in usage.as_record()["versions"]:
                work.journal.tell(
                    f"{name}/{each['version']} ({each['state']}): {each['files']} in use"
                )
            if left is not None:
                work.journal.tell(f"{name}: versions below {left} are retired")
            return {**usage.as_record(), "retired_below": left}


def _places(here: Deployment, name: str, prefixes: Any) -> list[str]:
    """Canonical addresses; where this key wraps the keys of sealed XCom values, theirs too."""
    listed = prefixes if isinstance(prefixes, list | tuple) else [prefixes]
    if not listed:
        raise ConfigurationError("prefixes: expected at least one address, found none")
    uris = [here.canonical(rendered_address("prefix", each)) for each in listed]
    settings = here.settings
    if name == (settings.xcom_key or settings.data_key):
        keys = here.canonical(str(settings.xcom_keys_dir))
        uris += [keys] if here.store(keys).info(keys) is not None else []
    return uris


def _flag(given: Any) -> bool:
    if given in (True, False):
        return bool(given)
    words = {"true": True, "false": False}
    if isinstance(given, str) and given.lower() in words:
        return words[given.lower()]
    raise ConfigurationError(f"retire_unused: expected true or false, found {given!r}")
