"""How many tokens each image keeps: one rule a file, one interface for all. Scores in, counts per image out.

Read `chosen.py` first. A rule is a function of scores and a level; `calibrating.py` finds the level at which
images keep as many tokens in the mean as a fixed share would leave them.
"""

from vitrim.methods.budgets.chosen import Rule
from vitrim.methods.budgets.mass import MASS
from vitrim.methods.budgets.sampled import SAMPLED
from vitrim.methods.budgets.threshold import THRESHOLD

# What depends on the image; "fixed" (fixed.py) is a number that every image shares
RULES: dict[str, Rule] = {"mass": MASS, "sampled": SAMPLED, "threshold": THRESHOLD}
