"""Attention that is not one softmax for each head: talking heads (CaiT, arXiv 2103.17239), and the difference
of two softmaxes (Differential Transformer, arXiv 2410.05258)."""

from collections.abc import Callable

from torch import Tensor, nn

from vitrim.backbones.support import TimmModule

# queries, keys, values of one softmax -> what the tokens receive, and the weights where they were computed
Run = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def talking_heads(
    attention: TimmModule, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """softmax(L q k + bias), mixed once more over the heads by W: what the tokens receive [B, H, T, d], and
    each head's softmax [B, H, T, T].

    The second mixing has a bias b of its own for every pair of tokens. A token that stands for s patches gets
    it s times, padding never: b exp(bias), which is b where there is no bias.
    """
    products = _over_heads(attention.proj_l, (queries * attention.scale) @ keys.transpose(-2, -1))
    products = products if bias is None else products + bias.to(products.dtype)
    weights = products.softmax(-1)
    mixed = _over_heads(attention.proj_w, weights)
    if bias is not None and attention.proj_w.bias is not None:
        times = bias.to(products.dtype).exp()
        mixed = mixed + attention.proj_w.bias[:, None, None] * (times - 1)
    return attention.attn_drop(mixed) @ values, weights


def differential(
    attention: TimmModule, queries: Tensor, keys: Tensor, values: Tensor, run: Run
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Two softmaxes of half the width for every head of values, the second subtracted with a learned share:
    what the tokens receive [B, H, T, d], the difference where weights were computed, and the share."""
    share = attention._compute_lambda().type_as(queries)
    pairs = zip(*(halves.unflatten(1, (-1, 2)).unbind(2) for halves in (queries, keys)), strict=True)
    (first, weights), (second, others) = (run(one, other, values) for one, other in pairs)
    mixed = attention.sub_norm(first - share * second) * (1 - attention.lambda_init)
    both = None if weights is None or others is None else weights - share * others
    return mixed, both, share


def _over_heads(layer: nn.Module, products: Tensor) -> Tensor:
    """A linear layer over the heads of [B, H, T, T]."""
    mixed: Tensor = layer(products.permute(0, 2, 3, 1))
    return mixed.permute(0, 3, 1, 2)
