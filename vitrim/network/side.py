"""Side streams: a second stream of tokens beside the blocks, which reads the first and gives nothing back.

The first stream stays the frozen backbone's own, so no gradient enters it and several tasks can share its
forward pass (`vitrim.together`). A method that has one puts a `SideStep` into `Stage.aside` of every block,
and the `SideStream` that starts and ends them into `StagedViT.shared`, under its own name. What a stream
carries from block to block is a `SideState` in the `TokenState`.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from vitrim.tokens.attended import Attended
from vitrim.tokens.state import SideState, TokenState

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule


class SideStep(nn.Module):
    """What a side stream does in one block. Subclasses define one of the two."""

    def reading(
        self, block: "TimmModule", state: TokenState, attended: Attended, side: SideState
    ) -> SideState:
        """After the block's attention: `state` is what entered the block, `attended` its keys and values."""
        return side

    def leaving(self, state: TokenState, side: SideState) -> SideState:
        """At the end of the block: `state` is what leaves it."""
        return side


class SideStream(nn.Module):
    """How a side stream starts, and what of it the head reads. Subclasses define what differs."""

    reads_last = True  # whether it reads what leaves the last block; else that block runs for one token only

    def start(self, state: TokenState) -> SideState:
        """The stream before the first block, which `state` is about to enter."""
        return SideState()

    def finish(self, state: TokenState, side: SideState) -> TokenState:
        """After the last block: the state that the final norm and the head read."""
        return state

    def features(self, vit: "TimmModule", state: TokenState, side: SideState) -> Tensor:
        """What the classifier reads. [B, D]"""
        from vitrim.backbones.heads import features

        return features(vit, self.finish(state, side))

    def classify(self, vit: "TimmModule", state: TokenState, side: SideState) -> Tensor:
        """Logits [B, classes]."""
        from vitrim.backbones.heads import classify

        return classify(vit, self.finish(state, side))
