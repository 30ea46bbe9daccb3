"""TR-PTS, arXiv 2507.22872, and GPS, from which it takes what it does not state."""

from vitrim.methods.reducers import EViT
from vitrim.methods.tuners import FisherDelta
from vitrim.settings.recipes.recipe import Recipe

TR_PTS: dict[str, Recipe] = {
    "tr-pts": Recipe(
        # By block and with a bound of ours: the paper trains 0.34 %, its equation alone ten times and more
        methods=(FisherDelta(layer="block", most=4), EViT(keep=0.95, at="sparse", rounding="floor")),
        follows="TR-PTS, arXiv 2507.22872, VTAB-1K: top 1 %, one connection, rho = .95; trained as GPS",
        advice="trains the backbone weights that the task itself chooses; thins tokens where it needs fewest",
        protocol="vtab/tr-pts",
    ),
    "gps": Recipe(
        methods=(
            FisherDelta(
                top=None, connections=1, score="gradient", loss="contrastive", biases=True, patch=True
            ),
        ),
        follows="GPS, arXiv 2312.10136, VTAB-1K setting: one connection per neuron, and all biases of those",
        advice="one weight of every neuron, by gradient; folds away after training",
        protocol="vtab/gps",
        expects={"trained": 167_424, "gmacs_paper": 17.582},
    ),
}
