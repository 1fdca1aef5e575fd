"""Keys in a PKCS#11 token: a hardware security module, a smart card, SoftHSM.

Member is what touches a token. python-pkcs11 is imported here only, when a token is first used.
"""
