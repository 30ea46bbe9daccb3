"""What a server is told when it starts: where it listens, who may ask, and how much it takes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vitrim.checks import check_number, check_positive

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Serving:
    """Settings of a server.

    Attributes:
        host: address to listen on; only this machine reaches the usual one.
        port: 0 takes a free one.
        token: what clients have to show as `Authorization: Bearer TOKEN`; None lets everybody in who reaches
            the address, and only this machine change adapters.
        adapters_root: the folder that adapters may be loaded from while the server runs; None: no loading.
        max_batch: pictures computed at a time.
        max_wait: milliseconds that a picture waits for others that are being decoded.
        queue: pictures accepted and not answered yet; beyond it, 429.
        timeout: seconds for a whole request, upload included.
        max_megabytes: of one request's body.
        max_held_megabytes: of all bodies held at once; beyond it, 429.
        max_megapixels: of one picture, as its header says, and of all pictures decoded at once.
        decoders: threads that decode pictures; None: as many as CPUs, at most 8.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    adapters_root: Path | None = None
    max_batch: int = 32
    max_wait: float = 5.0
    queue: int = 256
    timeout: float = 30.0
    max_megabytes: float = 20.0
    max_held_megabytes: float = 256.0
    max_megapixels: float = 50.0
    decoders: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch", "queue"):
            check_positive("serve", name, getattr(self, name))
        if self.decoders is not None:
            check_positive("serve", "decoders", self.decoders)
        if not isinstance(self.port, int) or not 0 <= self.port <= 65535:
            raise ValueError(
                f"serve: port must be a whole number from 0 (a free one) to 65535, got {self.port!r}"
            )
        for name in ("max_wait", "timeout", "max_megabytes", "max_held_megabytes", "max_megapixels"):
            check_number("serve", name, getattr(self, name))
        for name in ("timeout", "max_megabytes", "max_held_megabytes", "max_megapixels"):
            if getattr(self, name) <= 0:
                raise ValueError(f"serve: {name} must be above 0, got {getattr(self, name)!r}")
        if self.max_wait < 0:
            raise ValueError(f"serve: max_wait must be at least 0 milliseconds, got {self.max_wait!r}")
        if self.max_held_megabytes < self.max_megabytes:
            raise ValueError(
                f"serve: max_held_megabytes ({self.max_held_megabytes:g}) must be at least max_megabytes "
                f"({self.max_megabytes:g}), or a body of that size could never be taken"
            )
        if self.token is not None:
            _check_token(self.token)
        if self.adapters_root is not None and not Path(self.adapters_root).is_dir():
            raise NotADirectoryError(f"serve: adapters_root {str(self.adapters_root)!r} is no folder")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        return self.host in LOOPBACK

    @property
    def most_bytes(self) -> int:
        return int(self.max_megabytes * MEGABYTE)

    @property
    def most_held(self) -> int:
        return int(self.max_held_megabytes * MEGABYTE)

    @property
    def most_pixels(self) -> int:
        return int(self.max_megapixels * MEGABYTE)


def _check_token(token: str) -> None:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("serve: a token is at least one visible ASCII character, without spaces")
