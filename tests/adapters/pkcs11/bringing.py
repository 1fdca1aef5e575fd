"""Put a key into a token that was made elsewhere."""

from __future__ import annotations

from pkcs11 import Attribute, KeyType, ObjectClass


def put_secret(token, label, value, **more):
    """An AES key that somebody brings along; `more` are attributes by PKCS#11's own name."""
    flags = {
        "SENSITIVE": True,
        "EXTRACTABLE": False,
        "PRIVATE": True,
        "ENCRYPT": True,
        "DECRYPT": True,
    } | more
    template = {getattr(Attribute, name): flag for name, flag in flags.items()}
    token.use(
        "bring a key",
        lambda session: session.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.AES,
                Attribute.TOKEN: True,
                Attribute.LABEL: label,
                Attribute.VALUE: value,
            }
            | template
        ),
    )
