"""Named compositions: which methods, after which paper, trained how, and the costs they must come to.

One file for each paper, and one for the methods they compare with. Rows of ablations are changed forms of a
recipe: `find_recipe("sparse-tuning(width=32)")`, `--recipe "sparse-tuning(EViT(keep=0.5, at=(4, 8)))"`.
"""

from collections.abc import Mapping
from dataclasses import replace

from vitrim.checks import did_you_mean
from vitrim.settings.protocols.task_values import with_values
from vitrim.settings.recipes.baselines import BASELINES
from vitrim.settings.recipes.fpet import FPET
from vitrim.settings.recipes.noah import NOAH_RECIPES
from vitrim.settings.recipes.recipe import Recipe as Recipe
from vitrim.settings.recipes.recipe import parse_changes
from vitrim.settings.recipes.sparse_tuning import SPARSE_TUNING
from vitrim.settings.recipes.tr_pts import TR_PTS
from vitrim.settings.recipes.video import VIDEO

RECIPES: dict[str, Recipe] = {**SPARSE_TUNING, **TR_PTS, **FPET, **BASELINES, **NOAH_RECIPES, **VIDEO}


def find_recipe(text: str, usual: Mapping[str, object] | None = None) -> Recipe:
    """A recipe by its name, or a changed form of it. `usual` are values of its methods ("FacT.scale") that
    take the place of the recipe's own, but not of what the text changes.

    >>> find_recipe("sparse-tuning(width=32)").methods[0]
    DenseAdapter(width=32, fusion='inner', reads=(1, 3))

    Raises:
        ValueError: for an unknown recipe or setting, offering the nearest.
    """
    name, opening, rest = text.strip().partition("(")
    name = name.strip()
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; {did_you_mean(name, RECIPES)}")
    found = RECIPES[name]
    if usual:
        found = replace(found, methods=with_values(found.methods, usual))
    if not opening:
        return found
    settings, methods = parse_changes(opening + rest)
    return found.changed(settings, *methods)
