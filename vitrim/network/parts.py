"""What methods plug into a block: reducers and selectors make the sequence shorter, branches add to it."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor, nn

from vitrim.tokens.attended import Attended
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.method import Method


class Selector(nn.Module):
    """Makes shorter what enters a block, before its attention. Subclasses define `forward` and `leaving`."""

    by: "Method"  # whose part this is; set when it is placed
    static = True  # how many tokens it leaves in evaluation does not depend on the image
    assumed: int | None = None  # how many tokens it leaves in costs, where it depends on the image
    takes_padding = False  # handles images of different counts by itself, without counting their padding
    takes_ragged = False  # handles images one after the other in one row (`TokenState.ragged`) too

    def forward(self, state: TokenState) -> TokenState:
        """The state that enters the block."""
        raise NotImplementedError

    def leaving(self, entering: int, start: int) -> int:
        """How many of `entering` patch tokens are left, of `start` that the image had."""
        raise NotImplementedError


class Reducer(nn.Module):
    """Makes the sequence shorter between attention and MLP. Subclasses define `forward` and `leaving`."""

    by: "Method"  # whose part this is; set when it is placed
    needs_grid = False  # works only while every patch is still a token of its own
    reads_masks = (
        False  # respects `keep`: may stand behind reducers that mask tokens instead of removing them
    )
    static = True  # how many tokens leave does not depend on the image
    masks_in_training = True  # where it does: whether training masks tokens instead of removing them
    assumed: int | None = None  # how many tokens leave in costs, where it depends on the image
    takes_padding = False  # handles images of different counts by itself, without counting their padding
    takes_ragged = False  # handles images one after the other in one row (`TokenState.ragged`) too
    has_penalty = False  # adds to the loss: runs in the last block too while training
    # Decides by attention or place alone and only averages tokens: it may run before the output projection.
    commutes = True

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        """The state after the reduction."""
        raise NotImplementedError

    def leaving(self, entering: int) -> int:
        """How many patch tokens leave when `entering` enter: a Python integer, known before the image is."""
        raise NotImplementedError

    def matching_macs(self, prefix: int, entering: int, width: int, head_width: int) -> int:
        """What papers count for choosing and applying the reduction: P, N, D and d in, multiply-accumulates
        out.

        Everything that runs inside `forward` (predictors and refiners too) is left to this declaration by
        `vitrim.costs(...).gmacs_paper`; zero where scores come free with unfused attention. `.gmacs` counts
        what runs instead.
        """
        return 0


@runtime_checkable
class Scheduled(Protocol):
    """A part whose behaviour in training changes with the epochs."""

    def follow(self, epoch: float) -> None:
        """Be what the schedule says after `epoch` epochs of training."""


class Branch(nn.Module):
    """Computes something beside attention or MLP that is added to their result.

    Of images in one row (`TokenState.ragged`), tokens, trail and `normed` are [1, S, C]; a branch that reads
    more of the state than those says `reads_all` or `reads_grid`, and runs on batches alone.
    """

    reads_norm = False  # whether `forward` reads `normed`
    reads_all = False  # whether what it adds to one token depends on the others
    needs_grid = False  # whether it refuses patch tokens that are not the whole grid
    reads_grid = False  # whether it reads where patches lie on the grid, which is to be one for all images

    def forward(self, state: TokenState, normed: Tensor) -> tuple[Tensor, TokenState]:
        """From the tokens before the norm (in `state`) and after it, what to add [B, T, D], and the state
        with the trail."""
        raise NotImplementedError
