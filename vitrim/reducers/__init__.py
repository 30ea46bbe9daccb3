"""Token reducers: one file each. A new one is one file here and one row in this table."""

from vitrim.method import Method
from vitrim.reducers.evit import EViT as EViT

REDUCERS: dict[str, type[Method]] = {method.__name__: method for method in (EViT,)}
