"""Layers of which single weights train: an index and a value for each, and a backward pass that pays for
no more.

    y = (W + S) x + b,   S zero but for C entries in every row

Neither S nor the gradient of W ever stays in memory: the forward pass adds the values to a copy of W that it
drops, the backward pass computes the product of output gradients and inputs at the chosen entries only.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.recompute import Kept, compute_dtype
from vitrim.backbones.tuned_linear import Tuned, TunedLinear, frozen, plain_linear
from vitrim.methods.selection.index_packing import pack_indices, packed_bytes, unpack_indices
from vitrim.network.method import Method

AT_ONCE = 256  # tokens whose copies, turned for the sampled product, stay in the processor's cache
SAMPLED_BELOW = 1 / 8  # share of a row up to which sampling beat the dense product; measured on a CPU


class Entries(nn.Module):
    """The entries of a weight matrix [rows, fan_in] that train, `count` in every row.

    Attributes:
        values: [rows, count], how far each is from the pre-trained weight.
        packed: the columns they are in, ascending in each row, in as few bits as they need.
        share: the part of the highest scores of the whole backbone that fell on this matrix (w); 0 if none
            was measured.
        chosen: whether the columns were chosen, or only room was made for them.
    """

    packed: Tensor
    share: Tensor

    def __init__(self, like: Tensor, count: int, chosen: bool) -> None:
        super().__init__()
        self.rows, self.fan_in = like.flatten(1).shape
        self.count, self.chosen = count, chosen
        self.values = nn.Parameter(like.new_zeros(self.rows, count)) if count else None
        size = packed_bytes(self.rows * count, self.fan_in)
        self.register_buffer("packed", torch.zeros(size, dtype=torch.uint8, device=like.device))
        self.register_buffer("share", torch.zeros((), device=like.device))
        self._unpacked: tuple[Tensor, int, Tensor] | None = None

    @torch.no_grad()
    def choose(self, index: Tensor, share: float) -> None:
        """Take these columns, [rows, count]."""
        self.packed.copy_(pack_indices(index, self.fan_in))
        self.share.fill_(share)
        self.chosen = True

    @property
    def index(self) -> Tensor:
        """The columns, [rows, count]; unpacked when they have changed, as they do when a file is read.
        Between calls they are held as small integers: a pool may hold many."""
        packed, last = self.packed, self._unpacked
        version = -1 if packed.is_inference() else packed._version
        if last is None or last[0] is not packed or last[1] != version or version < 0:
            with torch.inference_mode(False), torch.no_grad():  # or training could not use it afterwards
                flat = unpack_indices(packed, self.rows * self.count, self.fan_in)
                small = flat.to(torch.int16 if self.fan_in <= 2**15 else torch.int32)
            last = self._unpacked = packed, version, small.view(self.rows, self.count)
        return last[2].long()

    def added_to(self, weight: Tensor) -> Tensor:
        """W + S, of the shape of W."""
        if self.values is None:
            return weight
        changed = weight.flatten(1).scatter_add(1, self.index, self.values.to(weight.dtype))
        return changed.view_as(weight)

    def check_chosen(self, by: str) -> None:
        """Refuse to train what was never chosen."""
        if not self.chosen and self.training and torch.is_grad_enabled():
            raise ValueError(
                f"{by} has not chosen its weights yet; call vitrim.fit(model, batches) with batches of "
                "training images and labels before training (vitrim.train does)"
            )


class SparseDeltaLinear(TunedLinear):
    """(W + S) x + b."""

    def __init__(self, base: nn.Linear, by: Method) -> None:
        super().__init__(base, by)
        self.entries = Entries(base.weight, 0, chosen=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.part(inputs, slice(0, self.out_features))

    def part(self, inputs: Tensor, rows: slice) -> Tensor:
        self.entries.check_chosen(self.by)
        bias = None if self.bias is None else self.bias[rows]
        values = self.entries.values
        if values is None:
            return F.linear(inputs, self.weight[rows], bias)
        index = self.entries.index[rows]
        if not torch.is_grad_enabled():
            weight = self.weight[rows]
            return F.linear(inputs, weight.scatter_add(1, index, values[rows].to(weight.dtype)), bias)
        kept = Kept.of(inputs, compute_dtype(inputs))
        return _SparseLinear.apply(inputs, self.weight[rows], bias, values[rows], index, kept)

    def merged(self) -> nn.Linear:
        return plain_linear(self.entries.added_to(self.weight), self.bias)


class SparseDeltaConv(nn.Conv2d, Tuned):
    """The same for a patch embedding, whose filters are rows of a matrix."""

    def __init__(self, base: nn.Conv2d, by: Method) -> None:
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        shape = {name: getattr(base, name) for name in names}
        super().__init__(**shape, bias=base.bias is not None, device="meta")
        self.by = type(by).__name__
        self.weight, self.bias = base.weight, base.bias
        self.entries = Entries(base.weight, 0, chosen=False)
        self.train(base.training)

    def forward(self, inputs: Tensor) -> Tensor:
        self.entries.check_chosen(self.by)
        return self._conv_forward(inputs, self.entries.added_to(self.weight), self.bias)

    def merged(self) -> nn.Conv2d:
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        shape = {name: getattr(self, name) for name in names}
        plain = nn.Conv2d(**shape, bias=self.bias is not None, device="meta")
        plain.weight = frozen(self.entries.added_to(self.weight))
        plain.bias = None if self.bias is None else frozen(self.bias)
        return plain


class _SparseLinear(torch.autograd.Function):
    """x (W + S)^T + b, with gradients for x, b and the entries of S."""

    @staticmethod
    def forward(ctx, inputs, weight, bias, values, index, kept):  # type: ignore[no-untyped-def]
        dtype = compute_dtype(inputs)
        ctx.make, ctx.kept, ctx.compute, ctx.precise = kept.make, len(kept.tensors), dtype, values.dtype
        ctx.save_for_backward(*kept.tensors, weight, values, index)
        with torch.autocast(inputs.device.type, enabled=False):
            changed = weight.scatter_add(1, index, values.to(weight.dtype)).to(dtype)
            return F.linear(inputs.to(dtype), changed, None if bias is None else bias.to(dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        *tensors, weight, values, index = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        to_inputs = to_bias = to_values = None
        with torch.autocast(gradient.device.type, enabled=False):
            if wanted[0]:
                changed = weight.scatter_add(1, index, values.to(weight.dtype)).to(ctx.compute)
                to_inputs = gradient @ changed
                del changed
            rows = gradient.flatten(0, -2)  # [N, O]
            if wanted[2]:
                to_bias = rows.sum(0, dtype=torch.promote_types(rows.dtype, torch.float32))
            if wanted[3]:
                inputs = ctx.make(*tensors).flatten(0, -2)  # [N, I]
                to_values = chosen_products(rows, inputs, index).to(ctx.precise)
        return to_inputs, None, to_bias, to_values, None, None


def chosen_products(gradients: Tensor, inputs: Tensor, index: Tensor) -> Tensor:
    """The entries `index` [O, C] of gradients^T inputs, from [N, O] and [N, I]."""
    count, fan_in = index.shape[1], inputs.shape[1]
    sampled = gradients.device.type == "cpu" and count <= SAMPLED_BELOW * fan_in
    if not sampled:
        return (gradients.t() @ inputs).gather(1, index)  # the dense product lives for this line only
    precise = torch.promote_types(gradients.dtype, torch.float32)
    starts = torch.arange(0, index.numel() + 1, count, device=index.device)
    _hush()
    pattern = torch.sparse_csr_tensor(
        starts, index.flatten(), gradients.new_zeros(index.numel(), dtype=precise), (index.shape[0], fan_in)
    )
    for some, seen in zip(gradients.split(AT_ONCE), inputs.split(AT_ONCE), strict=True):
        turned = some.t().to(precise, memory_format=torch.contiguous_format)
        pattern = torch.sparse.sampled_addmm(pattern, turned, seen.to(precise))  # added to what is there
    return pattern.values().view_as(index)


@cache
def _hush() -> None:
    """Let torch say once, unheard, that its compressed sparse rows are in beta."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.zeros(1, dtype=torch.long), torch.zeros(0, dtype=torch.long),
                                torch.zeros(0), (0, 1))  # fmt: skip
