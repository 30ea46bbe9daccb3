"""What a client is told when a request cannot be answered: a status and one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping


class Refusal(Exception):
    """Raised anywhere while a request is answered; the client gets `{"error": sentence}`."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        return json.dumps({"error": self.sentence}).encode()


def try_again(sentence: str, seconds: int) -> Refusal:
    """More is asked for than can be held; the same request may be sent again after a while."""
    return Refusal(429, f"{sentence}; try again in {seconds} s", {"retry-after": str(seconds)})
