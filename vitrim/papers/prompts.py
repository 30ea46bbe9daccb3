"""How many prompts VPT's authors chose for each task; other papers print means of the parameters they make.
At the end the same for SynQT's queries, from its released settings.

VPT's numbers are those of the list in its appendix, quoted from memory: neither the list nor the file its
repository links to is at hand here. Their check is that five counts in three papers follow from them to the
last printed digit.
"""

# Natural, specialized and structured tasks of VTAB-1K, in the order of vitrim.data.vtab_tasks
VTAB_DEEP = ((10, 10, 10, 1, 1, 50, 5), (100, 100, 10, 1), (50, 200, 100, 50, 10, 50, 200, 200))
VTAB_SHALLOW = ((100, 5, 1, 50, 200, 50, 1), (5, 50, 50, 10), (100, 200, 100, 100, 100, 100, 200, 200))
# CUB, NABirds, Flowers, Dogs, Cars
FGVC_DEEP = ((10, 50, 5, 100, 200),)
FGVC_SHALLOW = ((100, 50, 100, 100, 100),)

# Queries of SynQT on ViT-B/16, by the released settings, and for how many of the 19 tasks each
SYNQT_QUERIES = ((1, 4), (4, 6), (16, 9))

Compositions = tuple[tuple[str, int], ...]


def mean_of_tasks(groups: tuple[tuple[int, ...], ...], deep: bool) -> Compositions:
    """A composition for each task, all with one weight."""
    return tuple((_vpt(prompts, deep), 1) for group in groups for prompts in group)


def mean_of_groups(groups: tuple[tuple[int, ...], ...], deep: bool) -> Compositions:
    """A composition for each task, weighted so that each group counts the same."""
    tasks = 1
    for group in groups:
        tasks *= len(group)
    return tuple((_vpt(prompts, deep), tasks // len(group)) for group in groups for prompts in group)


def mean_of_synqt() -> Compositions:
    """SynQT for each task, with the weights that its release holds and never reads."""
    return tuple((f"SynQT(queries={queries}, follows='release')", tasks) for queries, tasks in SYNQT_QUERIES)


def _vpt(prompts: int, deep: bool) -> str:
    return f"VPT(prompts={prompts})" if deep else f"VPT(prompts={prompts}, deep=False)"


def released_subnets() -> tuple[tuple[str, int], ...]:
    """The compositions that NOAH's authors found for the tasks of VTAB-1K."""
    from vitrim.settings.recipes.noah import RELEASED_SUBNETS

    return tuple(("; ".join(map(repr, each.methods())), 1) for each in RELEASED_SUBNETS.values())
