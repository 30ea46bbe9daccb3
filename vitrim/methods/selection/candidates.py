"""The layers whose weights are ranked: every linear layer of every block, and the patch embedding if asked
for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitrim.backbones.sites import Site

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule
    from vitrim.network.model import StagedViT


@dataclass(frozen=True)
class Candidate:
    """One layer: the name of its weight in the backbone, its block (-1 for the patch embedding), and where it
    is.
    """

    name: str
    block: int
    site: Site

    @property
    def layer(self) -> TimmModule:
        """The layer that stands there now."""
        return self.site.layer


def candidates(model: StagedViT, patch: bool = False) -> list[Candidate]:
    """All of them, from the image to the head; a fused qkv is one layer."""
    names = {id(module): f"{name}.weight" for name, module in model.vit.named_modules()}
    found: dict[str, Candidate] = {}
    for site in model.sites():
        if site.role == "norm" or (site.role == "patch" and not patch):
            continue
        name = names[id(site.layer)]
        found.setdefault(name, Candidate(name, -1 if site.block is None else site.block, site))
    return list(found.values())
