"""Parameter-efficient tuners: one file each. A new one is one file here and one row in this table."""

from vitrim.method import Method
from vitrim.tuners.adapter import Adapter as Adapter
from vitrim.tuners.convpass import Convpass as Convpass
from vitrim.tuners.dense_adapter import DenseAdapter as DenseAdapter
from vitrim.tuners.dyt import DyT as DyT
from vitrim.tuners.lora import LoRA as LoRA
from vitrim.tuners.vpt import VPT as VPT

TUNERS: dict[str, type[Method]] = {
    method.__name__: method for method in (LoRA, Adapter, DenseAdapter, Convpass, DyT, VPT)
}
