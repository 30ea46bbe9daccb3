"""Mass: as many of the best tokens as hold a share tau of all attention."""

from torch import Tensor

from vitrim.methods.budgets.chosen import Chosen, Rule, descending, own_counts, shares


def by_mass(scores: Tensor, tau: float) -> Chosen:
    """The smallest prefix of the descending order whose share of the scores [B, N] reaches tau: few tokens
    where attention is peaked, many where it is spread."""
    order = descending(scores)
    reached = shares(scores).gather(1, order).cumsum(1)  # [B, N]
    counts = (reached < tau).sum(1) + 1
    return Chosen(counts.clamp(max=own_counts(scores)), order)


MASS = Rule(by_mass, fewest=lambda count: 0.0, most=lambda count: 1.0)
