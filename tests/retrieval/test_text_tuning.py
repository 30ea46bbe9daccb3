"""LoRA and adapters on text encoders of transformers: they start without effect, train alone, and are
refused where they would be lost."""

from collections.abc import Callable

import pytest
import torch

from vitrim import LoRA
from vitrim.methods.tuners import Adapter
from vitrim.retrieval.text import TextTower, TransformersText, WordTower, pooled
from vitrim.retrieval.text_tuning import tune_text

transformers = pytest.importorskip("transformers")
WIDTH, LAYERS = 12, 2
SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "vocab_size": 20}
SMALL: dict[str, Callable[[], torch.nn.Module]] = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SHAPE, intermediate_size=24)),
    "clip": lambda: transformers.CLIPTextModel(
        transformers.CLIPTextConfig(**SHAPE, intermediate_size=24, eos_token_id=2)
    ),
    "siglip": lambda: transformers.SiglipTextModel(
        transformers.SiglipTextConfig(**SHAPE, intermediate_size=24, projection_size=WIDTH)
    ),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(vocab_size=20, dim=WIDTH, n_layers=LAYERS, n_heads=2, hidden_dim=24)
    ),
}
METHODS = {
    "LoRA(rank=2)": LAYERS * 2 * 2 * 2 * WIDTH,
    "LoRA(rank=2, roles=('query', 'key', 'value'))": LAYERS * 3 * 2 * 2 * WIDTH,
    "Adapter(width=3, form='sequential')": LAYERS * (2 * 3 * WIDTH + 3 + WIDTH),
}


def tower(kind: str) -> TextTower:
    torch.manual_seed(0)
    model = SMALL[kind]().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return TransformersText(model, length=6).eval()


def captions() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([[4, 5, 6, 7, 2, 0], [4, 9, 2, 0, 0, 0]])
    return ids, (ids != 0).long()


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("method", METHODS)
def test_methods_start_without_effect_and_train_alone(kind: str, method: str) -> None:
    plain, tuned = tower(kind), tune_text(tower(kind), method)
    before = plain.features(*captions())
    assert torch.equal(tuned.features(*captions()), before)
    trained = [each for each in tuned.parameters() if each.requires_grad]
    assert sum(each.numel() for each in trained) == METHODS[method]
    with torch.no_grad():
        for each in trained:
            each.add_(0.3 * torch.randn_like(each))
    after = tuned.features(*captions())
    assert not torch.allclose(after, before)
    after.square().sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in trained)


def test_padding_changes_nothing() -> None:
    ids, mask = captions()
    for kind in SMALL:
        if kind == "siglip":
            continue  # which was trained to read its last place, padding or not
        text = tower(kind)
        cut = text.features(ids[1:, :3], mask[1:, :3])
        assert torch.allclose(text.features(ids, mask)[1:], cut, atol=1e-10), kind
    words = WordTower(20, width=8, heads=2, length=6).double().eval()
    assert torch.allclose(
        words.features(ids, mask)[1:], words.features(ids[1:, :3], mask[1:, :3]), atol=1e-10
    )


def test_pooling_by_hand() -> None:
    hidden = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert pooled(hidden, mask, "first").tolist() == [[0.0, 1.0], [6.0, 7.0]]
    assert pooled(hidden, mask, "last").tolist() == [[2.0, 3.0], [10.0, 11.0]]
    assert pooled(hidden, mask, "mean").tolist() == [[1.0, 2.0], [8.0, 9.0]]


def test_what_would_be_lost_is_refused() -> None:
    text = tower("bert")
    with pytest.raises(ValueError, match="a text tower takes LoRA"):
        tune_text(text, Adapter(width=2))
    with pytest.raises(ValueError, match="leave out at and shared"):
        tune_text(text, LoRA(rank=2, at=(0,)))
    with pytest.raises(ValueError, match="tuned already"):
        tune_text(text, LoRA(rank=2), LoRA(rank=3))
    with pytest.raises(ValueError, match="none of the layers of this WordTower are known"):
        tune_text(WordTower(9), LoRA(rank=2))
    with pytest.raises(ValueError, match="7 tokens do not fit"):
        text(torch.ones(1, 7, dtype=torch.long), torch.ones(1, 7))
    assert all(each.requires_grad for each in tune_text(tower("clip"), "Full()").parameters())
    assert not any(each.requires_grad for each in tune_text(tower("clip")).parameters())
