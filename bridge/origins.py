"""Which pages may connect, and by which names this server may be called (DNS rebinding)."""

import contextlib
import ipaddress
import re
import socket

ORIGIN = re.compile(r"https?://(([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?)")
HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d+)?")
LOCAL = {"localhost", "127.0.0.1", "::1"}


class Origins:
    def __init__(self, host, allow_origins=(), file_origin=True, allow_hosts=()):
        self.allowed = {origin.rstrip("/").lower() for origin in allow_origins}
        self.file_origin = file_origin
        name = socket.gethostname().lower()
        self.names = {"localhost", host.lower(), name, f"{name}.local", *map(str.lower, allow_hosts)}
        self.names |= {found[2].strip("[]") for found in map(ORIGIN.fullmatch, self.allowed) if found}

    def knows_host(self, host):
        """Whether a request with this Host header means us: a name of ours, or an address."""
        found = HOST.fullmatch(host.lower())
        return found is not None and self.is_ours(found[1].strip("[]"))

    def is_ours(self, name):
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return name.rstrip(".") in self.names

    def may_come_from(self, origin, host):
        """Whether a page of this origin, which called us by the Host header `host`, may connect."""
        origin = origin.lower()
        if origin == "null":
            return self.file_origin  # pages opened from disk
        if origin in self.allowed:
            return True
        found = ORIGIN.fullmatch(origin)
        if found is None:
            return False
        name = found[2].strip("[]")
        return name in LOCAL or found[1] == host.lower() and self.is_ours(name)
