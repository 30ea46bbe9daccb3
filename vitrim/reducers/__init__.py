"""Token reducers: one file each. A new one is one file here and one row in this table."""

from vitrim.network.method import Method
from vitrim.reducers.bipartite import Bipartite as Bipartite
from vitrim.reducers.dynamicvit import DynamicViT as DynamicViT
from vitrim.reducers.evit import EViT as EViT
from vitrim.reducers.ltmp import LTMP as LTMP
from vitrim.reducers.pooling import Pool as Pool
from vitrim.reducers.tome import ToMe as ToMe

REDUCERS: dict[str, type[Method]] = {
    method.__name__: method for method in (EViT, DynamicViT, Pool, ToMe, Bipartite, LTMP)
}
