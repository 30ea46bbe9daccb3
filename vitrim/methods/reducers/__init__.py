"""Token reducers: one file each. A new one is one file here and one row in this table."""

from vitrim.methods.reducers.bipartite import Bipartite as Bipartite
from vitrim.methods.reducers.dynamicvit import DynamicViT as DynamicViT
from vitrim.methods.reducers.evit import EViT as EViT
from vitrim.methods.reducers.ltmp import LTMP as LTMP
from vitrim.methods.reducers.pooling import Pool as Pool
from vitrim.methods.reducers.pyra import PYRA as PYRA
from vitrim.methods.reducers.tome import ToMe as ToMe
from vitrim.network.method import Method

REDUCERS: dict[str, type[Method]] = {
    method.__name__: method for method in (EViT, DynamicViT, Pool, ToMe, Bipartite, LTMP, PYRA)
}
