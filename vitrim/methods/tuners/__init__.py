"""Parameter-efficient tuners: one file each. A new one is one file here and one row in this table."""

from vitrim.methods.tuners.adapter import Adapter as Adapter
from vitrim.methods.tuners.bitfit import BitFit as BitFit
from vitrim.methods.tuners.convpass import Convpass as Convpass
from vitrim.methods.tuners.dense_adapter import DenseAdapter as DenseAdapter
from vitrim.methods.tuners.dyt import DyT as DyT
from vitrim.methods.tuners.fact import FacT as FacT
from vitrim.methods.tuners.fisher import FisherDelta as FisherDelta
from vitrim.methods.tuners.full import Full as Full
from vitrim.methods.tuners.layernorm_tuning import LayerNormTuning as LayerNormTuning
from vitrim.methods.tuners.linear import Linear as Linear
from vitrim.methods.tuners.lora import LoRA as LoRA
from vitrim.methods.tuners.noah import NOAH as NOAH
from vitrim.methods.tuners.repadapter import RepAdapter as RepAdapter
from vitrim.methods.tuners.restuning import ResTuning as ResTuning
from vitrim.methods.tuners.ssf import SSF as SSF
from vitrim.methods.tuners.synqt import SynQT as SynQT
from vitrim.methods.tuners.vpt import VPT as VPT
from vitrim.network.method import Method

IN_PLACE = (Full, Linear, BitFit, LayerNormTuning)
FOLDABLE = (SSF, LoRA, FacT, RepAdapter, FisherDelta)
BESIDE = (Adapter, DenseAdapter, Convpass, DyT, VPT, NOAH, SynQT, ResTuning)

TUNERS: dict[str, type[Method]] = {method.__name__: method for method in (*IN_PLACE, *FOLDABLE, *BESIDE)}
