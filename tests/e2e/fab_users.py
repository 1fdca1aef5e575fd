"""Roles and users of Airflow's FAB auth manager, for the page tests; run inside its environment.

Reads from standard input, as JSON: roles (name: pairs of action and resource) and users (name:
role). A user's password is the name with -pw.
"""

from __future__ import annotations

import json
import sys

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder


def make(roles: dict[str, list[list[str]]], users: dict[str, str]) -> None:
    with get_application_builder() as builder:
        manager = builder.sm
        manager.sync_roles()
        for name, permissions in roles.items():
            role = manager.add_role(name)
            for action, resource in permissions:
                manager.add_permission_to_role(role, manager.create_permission(action, resource))
        for name, role_name in users.items():
            made = manager.add_user(
                name, name, "Test", f"{name}@hospital.example", manager.find_role(role_name),
                password=f"{name}-pw",
            )  # fmt: skip
            assert made, name


if __name__ == "__main__":
    given = json.load(sys.stdin)
    make(given["roles"], given["users"])
