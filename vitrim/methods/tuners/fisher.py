"""FisherDelta: train the few weights of the backbone that the task's loss depends on most."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from vitrim.backbones.tuned_linear import own_layer
from vitrim.checks import check_one_of, check_positive, is_number, several
from vitrim.methods.selection.allocation import best_inputs, connections_per_neuron, layer_totals, top_counts
from vitrim.methods.selection.candidates import Candidate, candidates
from vitrim.methods.tuners.sparse_delta import Entries, SparseDeltaConv, SparseDeltaLinear
from vitrim.network.method import Method, option, store_blocks, store_setting

if TYPE_CHECKING:
    from vitrim.methods.selection.scores import LabelledImages, Scores
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class FisherDelta(Method):
    """A few inputs of every neuron train, chosen by one pass over the task's images (TR-PTS, arXiv
    2507.22872, section 3.2; GPS, arXiv 2312.10136).

    Scores of all weights of the blocks' linear layers are taken on the plain backbone. The top share of
    them counts how much the task needs each layer, and each neuron (output) of a layer trains its C inputs
    of highest score:

        F = E[(dL/dtheta)^2],  w_l = |top of F in l| / |top of F|,  C_l = max(1, w_l / min(w) * connections)

    Only those entries have values, gradients and optimizer state; the change folds exactly into the weights.
    Which they are is chosen by `vitrim.fit(model, batches)` before training, which `vitrim.train` calls; the
    method then carries the C of every matrix as `counts`, and a saved file the indices.

    GPS is `FisherDelta(top=None, connections=k, score="gradient", loss="contrastive", biases=True,
    patch=True)`: k inputs per neuron everywhere, 83,712 (k + 1) parameters on ViT-B/16. Its release masks
    dense gradients, in the loss scaler only; here nothing else can train.

    The paper leaves open what `layer`, `rounding` and `empty` decide; C is capped at a matrix's fan-in. Taken
    literally the equation gives far more than the 0.34 % the paper trains: on EuroSAT with ViT-Tiny, 53 % by
    matrix and 6 % by block, since the layer with the smallest share sets the unit. `most` bounds C; 4 by
    block gives the paper's size.

    Attributes:
        top: percent of all scores that count as the top; None gives every neuron `connections` inputs.
        connections: C of the layer with the smallest share above zero.
        layer: what w and C are the same for: "matrix", or "block" as in the paper's Figure 5.
        score: "fisher", squared gradients; "gradient", the size of the signed sum of gradients (GPS).
        fisher: the mean in F runs over images ("per_sample", the definition) or over batches ("batch",
            squares of mean gradients: what most code does, and another choice).
        loss: "cross_entropy" with the fresh classifier, or supervised "contrastive" on two views, for which
            there is no per-sample form.
        biases: the biases of those layers train too.
        patch: the patch embedding is a candidate too.
        rounding: of C, "floor" or "nearest".
        empty: neurons of layers without any top score train "one" input or "none".
        most: the largest C; None for no bound but the fan-in.
        scores: a file of scores to read, or to write where there is none yet.
        counts: inputs per neuron of every matrix, in order; set by `fit`.
        at: indices of the blocks whose weights are candidates, counted from 0; None for all.
    """

    folds: ClassVar[bool] = True
    trains_own: ClassVar[bool] = True
    fits_late: ClassVar[bool] = False

    top: float | None = 1.0
    connections: int = 1
    layer: str = "matrix"
    score: str = "fisher"
    fisher: str = "per_sample"
    loss: str = option("cross_entropy")
    biases: bool = option(False)
    patch: bool = option(False)
    rounding: str = option("floor")
    empty: str = option("one")
    most: int | None = option(None)
    scores: str | None = option(None)
    counts: tuple[int, ...] | None = option(None)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        if self.top is not None and (not is_number(self.top) or not 0 < self.top <= 100):
            raise ValueError(f"FisherDelta: top must be above 0 and at most 100 percent, got {self.top!r}")
        check_positive("FisherDelta", "connections", self.connections)
        if self.most is not None:
            check_positive("FisherDelta", "most", self.most)
        choices = {
            "layer": ("matrix", "block"), "score": ("fisher", "gradient"), "fisher": ("per_sample", "batch"),
            "loss": ("cross_entropy", "contrastive"), "rounding": ("floor", "nearest"),
            "empty": ("one", "none"), "biases": (False, True), "patch": (False, True),
        }  # fmt: skip
        for name, allowed in choices.items():
            check_one_of("FisherDelta", name, getattr(self, name), allowed)
        if self.two_views and self.measure == "per_sample":
            raise ValueError(
                "FisherDelta: the contrastive loss compares images, so no image has a gradient of its own; "
                "use fisher='batch' or score='gradient'"
            )
        if self.patch and self.at is not None:
            raise ValueError("FisherDelta: at names blocks, patch=True the patch embedding; leave one out")
        if self.counts is not None:
            store_setting(self, "counts", several("FisherDelta", "counts", self.counts, int))
            if not all(isinstance(count, int) and count >= 0 for count in self.counts):
                raise ValueError(f"FisherDelta: counts must hold whole numbers, got {self.counts!r}")

    @property
    def measure(self) -> str:
        """The measure of `vitrim.methods.selection.scores` these settings ask for."""
        return "gradient" if self.score == "gradient" else self.fisher

    @property
    def two_views(self) -> bool:
        """Whether scores are taken on two views of every image."""
        return self.loss == "contrastive"

    @property
    def settled(self) -> bool:
        """Whether the weights are chosen."""
        return self.counts is not None

    def attach(self, model: "StagedViT") -> None:
        found = self._candidates(model)
        counts = self.counts
        if counts is None:  # how many is known without data where all neurons get the same
            counts = (0 if self.top is not None else self.connections,) * len(found)
        if len(counts) != len(found):
            raise ValueError(f"{self}: {len(counts)} counts for {len(found)} matrices; give one each")
        for candidate, count in zip(found, counts, strict=True):
            layer = self._layer(candidate)
            fan_in = layer.weight[0].numel()
            if self.settled and count > fan_in:
                raise ValueError(f"{self}: {count} inputs per neuron, but {candidate.site} has only {fan_in}")
            layer.entries = Entries(layer.weight, min(count, fan_in), chosen=self.settled)
            candidate.site.put(layer)
        if self.biases:
            for site in model.sites_in(self.at, self):
                trains = site.role != "norm" and (site.role != "patch" or self.patch)
                if trains and site.bias is not None:
                    site.bias.requires_grad_(True)

    def first_blocks(self, count: int, depth: int) -> "Method | None":
        left = super().first_blocks(count, depth)
        if self.counts is None or not isinstance(left, FisherDelta):
            return left
        blocks = depth if self.at is None else len(self.at)
        each, stay = len(self.counts) // blocks, count if left.at is None else len(left.at)
        patch = len(self.counts) - each * blocks  # the patch embedding comes first
        return replace(left, counts=self.counts[: patch + each * stay])

    def _candidates(self, model: "StagedViT") -> list[Candidate]:
        found = candidates(model, self.patch)
        blocks = model.check_blocks(self.at, self)
        return [each for each in found if self.at is None or each.block in blocks]

    def _layer(self, candidate: Candidate) -> SparseDeltaLinear | SparseDeltaConv:
        layer = candidate.layer
        ours = self.settled and isinstance(layer, SparseDeltaLinear | SparseDeltaConv)
        if ours and not layer.entries.chosen:
            return layer  # waiting for the choice
        own = own_layer(candidate.site, self)
        if isinstance(own, nn.Linear):
            return SparseDeltaLinear(own, self)
        if isinstance(own, nn.Conv2d):
            return SparseDeltaConv(own, self)
        raise ValueError(f"{self}: {candidate.site} is a {type(own).__name__}, not a linear layer")

    def fit(self, model: "StagedViT", batches: "LabelledImages") -> "FisherDelta":
        """Score the backbone's weights, choose, and make the chosen ones train."""
        found = self._candidates(model)
        values = self._scores(model, batches, found)
        counts, shares = self.allocate(values, [candidate.block for candidate in found])
        chosen = replace(self, counts=tuple(counts))
        chosen.attach(model)
        for candidate, count, share in zip(found, counts, shares, strict=True):
            layer: SparseDeltaLinear | SparseDeltaConv = candidate.layer
            score = values[candidate.name].to(layer.weight.device)
            layer.entries.choose(best_inputs(score, count), share)
        return chosen

    def allocate(self, values: dict[str, Tensor], blocks: list[int]) -> tuple[list[int], list[float]]:
        """C of every matrix, and its share of the top scores (zeros where none are ranked)."""
        fan_ins = [score.shape[1] for score in values.values()]
        bounds = fan_ins if self.most is None else [min(self.most, fan_in) for fan_in in fan_ins]
        if self.top is None:
            return [min(self.connections, fan_in) for fan_in in fan_ins], [0.0] * len(fan_ins)
        counts = list(top_counts(values, self.top).values())
        layers = blocks if self.layer == "block" else list(range(len(counts)))
        totals = layer_totals(counts, layers)
        wanted = connections_per_neuron(totals, self.connections, self.rounding, self.empty)
        return [min(count, bound) for count, bound in zip(wanted, bounds, strict=True)], [
            count / sum(counts) for count in counts
        ]

    def _scores(
        self, model: "StagedViT", batches: "LabelledImages", found: list[Candidate]
    ) -> dict[str, Tensor]:
        from vitrim.methods.selection.files import load_scores, save_scores
        from vitrim.methods.selection.scores import measure_scores

        if self.scores is not None and Path(self.scores).exists():
            return self._checked(load_scores(self.scores), found)
        measured = measure_scores(model, batches, self, self.measure, self.loss, self.patch)
        if self.scores is not None:
            save_scores(measured, self.scores)
        return {candidate.name: measured.values[candidate.name] for candidate in found}

    def _checked(self, scores: "Scores", found: list[Candidate]) -> dict[str, Tensor]:
        """Scores from a file, refused where they are of another kind or of another backbone."""
        where = f"{self}: {self.scores!r}"
        asked, held = (self.measure, self.loss), (scores.measure, scores.loss)
        if any(held) and held != asked:
            raise ValueError(
                f"{where} holds {' '.join(held)} scores, not {' '.join(asked)}; name another file"
            )
        values = {}
        for candidate in found:
            value = scores.values.get(candidate.name)
            shape = tuple(candidate.layer.weight.flatten(1).shape)
            if value is None or tuple(value.shape) != shape:
                raise ValueError(f"{where} has no scores of shape {shape} for {candidate.name}")
            if not torch.isfinite(value).all() or bool((value < 0).any()):
                raise ValueError(f"{where} holds scores of {candidate.name} that are negative or not finite")
            values[candidate.name] = value
        return values
