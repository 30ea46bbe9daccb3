"""Who may ask, and who may change what is loaded.

With a token, everything but the page and the health probes needs it. Without one, whoever reaches the address
may ask, and adapters are changed from this machine only. A web page that somebody visits runs on this machine
too: so, without a token, names of the server other than this machine's are refused (a stranger's name can be
made to lead here), and changes must not come from another site's page nor through a proxy.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from vitrim.deploy.serving.page import FILES
from vitrim.deploy.serving.refusal import Refusal
from vitrim.deploy.serving.settings import LOOPBACK, Serving

OPEN = (*FILES, "/v2/health/live", "/v2/health/ready")
PROXIES = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Access:
    """The rules of one application.

    Args:
        serving: with the token, and where the server listens.
        pages: further paths that need no token, such as the page of an added router.
    """

    def __init__(self, serving: Serving, pages: Collection[str] = ()) -> None:
        self.serving = serving
        self.open = frozenset((*OPEN, *pages))

    def check(self, scope: Scope) -> None:
        """Refuse a request that may not be answered at all."""
        headers = Headers(scope=scope)
        if self.serving.token is None:
            if self.serving.loopback and not _names_this_machine(headers.get("host", "")):
                raise Refusal(403, "this server answers as 127.0.0.1 or localhost only")
        elif scope["path"] not in self.open:
            given = headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, f"Bearer {self.serving.token}".encode()):
                raise Refusal(
                    401, "this needs the header Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"}
                )

    def check_change(self, scope: Scope) -> None:
        """Refuse a request that may not change what is loaded; `check` has let it in."""
        if self.serving.token is not None:
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        here = _is_loopback((scope.get("client") or ("",))[0]) and _names_this_machine(host)
        if not here or any(name in headers for name in PROXIES):
            raise Refusal(403, "without a token, adapters are changed from the machine of the server only")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refusal(403, "another site's page may not change adapters")


def _names_this_machine(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in LOOPBACK
    except ValueError:
        return False


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
