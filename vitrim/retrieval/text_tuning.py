"""LoRA, adapters and full tuning on a text encoder of transformers, in the methods' own words.

Which layers carry them is looked up by the class of the module that owns them, so an encoder of an unknown
class is refused instead of left untuned.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from vitrim.backbones.tuned_linear import SummedLinear, Tuned, TunedLinear
from vitrim.methods.notation import parse_method
from vitrim.methods.tuners.adapter import Adapter, Bottleneck
from vitrim.methods.tuners.full import Full
from vitrim.methods.tuners.linear import Linear
from vitrim.methods.tuners.lora import LoRA, LowRank
from vitrim.network.method import Method
from vitrim.retrieval.text import TextTower

QUERY_KEY_VALUE = {  # class of the attention -> its layers, by role
    "BertSelfAttention": ("query", "key", "value"),
    "BertCrossAttention": ("query", "key", "value"),
    "RobertaSelfAttention": ("query", "key", "value"),
    "BlipTextSelfAttention": ("query", "key", "value"),
    "CLIPAttention": ("q_proj", "k_proj", "v_proj"),
    "SiglipAttention": ("q_proj", "k_proj", "v_proj"),
    "DistilBertSelfAttention": ("q_lin", "k_lin", "v_lin"),
    "MultiHeadSelfAttention": ("q_lin", "k_lin", "v_lin"),
}
MLP_OUT = {  # class of the part that ends an MLP -> its last layer
    "BertOutput": "dense", "RobertaOutput": "dense", "BlipTextOutput": "dense", "CLIPMLP": "fc2",
    "SiglipMLP": "fc2", "FFN": "lin2",
}  # fmt: skip
ROLES = ("query", "key", "value")
Table = dict[str, dict[str, str]]  # class of a part -> its layers by role
TAKEN = "LoRA(...) on query, key and value, Adapter(form='sequential'), Full() or Linear()"


class AdaptedLinear(TunedLinear):
    """The last layer of an MLP with a sequential adapter behind it: h + s up(act(down(h))), h = W x + b."""

    def __init__(self, base: nn.Linear, settings: Adapter) -> None:
        super().__init__(base, settings)
        self.adapter = Bottleneck(base.out_features, settings, base.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = nn.functional.linear(inputs, self.weight, self.bias)
        return outputs + self.adapter(outputs)


def tune_text(tower: TextTower, *methods: Method | str) -> TextTower:
    """Freeze a text tower and put methods on it; without any it stays frozen. The tower itself is
    changed."""
    tower.requires_grad_(False)
    for given in methods:
        method = parse_method(given) if isinstance(given, str) else given
        if isinstance(method, Full):
            tower.requires_grad_(True)
        elif isinstance(method, LoRA) and isinstance(method.rank, int) and set(method.roles) <= set(ROLES):
            table = {kind: dict(zip(ROLES, names, strict=True)) for kind, names in QUERY_KEY_VALUE.items()}
            _put(tower, method, table, method.roles)
        elif isinstance(method, Adapter) and method.form == "sequential" and method.places == ("mlp",):
            _put(tower, method, {kind: {"mlp_out": name} for kind, name in MLP_OUT.items()}, ("mlp_out",))
        elif not isinstance(method, Linear):
            raise ValueError(f"{method}: a text tower takes {TAKEN}")
    return tower


def _put(tower: nn.Module, method: Method, table: Table, roles: tuple[str, ...]) -> None:
    if getattr(method, "at", None) is not None or getattr(method, "shared", False):
        raise ValueError(f"{method}: on a text tower it stands in all layers; leave out at and shared")
    found = list(_layers(tower, table, roles))
    if not found:
        raise ValueError(
            f"{method}: none of the layers of this {type(tower).__name__} are known; known are the encoders "
            "of BERT, RoBERTa, DistilBERT, CLIP, SigLIP and BLIP in transformers; use Full()"
        )
    for owner, name, role in found:
        base = getattr(owner, name)
        if isinstance(base, Tuned) or base.weight.requires_grad:
            raise ValueError(f"{method}: the text tower is tuned already; give one method")
        if isinstance(method, LoRA):
            term = LowRank(base, slice(0, base.out_features), int(_rank(method)), method)
            setattr(owner, name, SummedLinear(base, {role: term}, method))
        elif isinstance(method, Adapter):
            setattr(owner, name, AdaptedLinear(base, method))


def _rank(method: LoRA) -> int:
    return method.rank if isinstance(method.rank, int) else method.rank[0]


def _layers(tower: nn.Module, table: Table, roles: tuple[str, ...]) -> Iterator[tuple[nn.Module, str, str]]:
    for module in tower.modules():
        names = table.get(type(module).__name__, {})
        yield from ((module, name, role) for role, name in names.items() if role in roles)
