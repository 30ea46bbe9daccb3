"""The tables of all methods by name. `register` (plugins.py) adds methods of one's own to the same tables."""

from vitrim.methods.first_blocks import FirstBlocks
from vitrim.methods.reducers import REDUCERS as REDUCERS
from vitrim.methods.tuners import TUNERS as TUNERS
from vitrim.methods.tuners.batchnorm_head import BatchNormHead
from vitrim.network.method import Method

METHODS: dict[str, type[Method]] = {
    **REDUCERS,
    **TUNERS,
    "BatchNormHead": BatchNormHead,
    "FirstBlocks": FirstBlocks,
}
BUILT_IN = frozenset(METHODS)
