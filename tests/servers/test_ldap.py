"""The LDAP server of tests: real and on loopback; Vault's logins by it are tested beside."""

from __future__ import annotations

import psutil

from tests.servers.ldap import RunningLdap


def test_it_listens_on_loopback_alone(ldap_server):
    found = psutil.net_connections("inet")

    mine = [c for c in found if c.status == "LISTEN" and c.laddr.port == ldap_server.port]
    assert [c.laddr.ip for c in mine] == ["127.0.0.1"]


def test_its_password_is_nowhere_in_clear(ldap_server):
    written = b"".join(p.read_bytes() for p in ldap_server.folder.rglob("*") if p.is_file())

    assert ldap_server.user.encode() in written
    assert ldap_server.password.encode() not in written
    assert ldap_server.password not in repr(ldap_server)


def test_it_stops(ldap_server, tmp_path):
    with RunningLdap(folder=tmp_path) as other:
        processes = [psutil.Process(pid) for pid in other._programs.pids()]

    assert processes
    assert [process for process in processes if process.is_running()] == []
