"""HashiCorp Vault and OpenBao: one client, and the ports that stand on it.

Each module is imported where it is used: `hvac` costs what Python costs to start. `line` alone is
standard library, since the guardian runs it.
"""
