"""Parameter-efficient tuners: one file each. A new one is one file here and one row in this table."""

from vitrim.network.method import Method
from vitrim.tuners.adapter import Adapter as Adapter
from vitrim.tuners.bitfit import BitFit as BitFit
from vitrim.tuners.convpass import Convpass as Convpass
from vitrim.tuners.dense_adapter import DenseAdapter as DenseAdapter
from vitrim.tuners.dyt import DyT as DyT
from vitrim.tuners.fact import FacT as FacT
from vitrim.tuners.fisher import FisherDelta as FisherDelta
from vitrim.tuners.full import Full as Full
from vitrim.tuners.layernorm_tuning import LayerNormTuning as LayerNormTuning
from vitrim.tuners.linear import Linear as Linear
from vitrim.tuners.lora import LoRA as LoRA
from vitrim.tuners.repadapter import RepAdapter as RepAdapter
from vitrim.tuners.ssf import SSF as SSF
from vitrim.tuners.vpt import VPT as VPT

IN_PLACE = (Full, Linear, BitFit, LayerNormTuning)
FOLDABLE = (SSF, LoRA, FacT, RepAdapter, FisherDelta)
BESIDE = (Adapter, DenseAdapter, Convpass, DyT, VPT)

TUNERS: dict[str, type[Method]] = {method.__name__: method for method in (*IN_PLACE, *FOLDABLE, *BESIDE)}
