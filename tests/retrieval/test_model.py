"""Towers with any reducer: what trains gets a gradient, merged and masked tokens are looked at as they
are, and what cannot be is refused."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

import vitrim
from vitrim import Bipartite, DynamicViT, EViT, LoRA, Pool, ToMe
from vitrim.network.method import Method
from vitrim.retrieval.losses import infonce, matching
from vitrim.retrieval.model import Pairs, RetrievalModel
from vitrim.retrieval.text import WordTower
from vitrim.retrieval.text_tuning import tune_text
from vitrim.retrieval.towers import image_bias
from vitrim.tokens.state import TokenState

pytest.importorskip("transformers")

from small_blip import ENC, IMAGE, PATCH, WIDTH, captions, pictures, small_blip

from vitrim.retrieval.crossing import CrossModalText


def vision(*methods: Method, classes: int = 0) -> vitrim.network.model.StagedViT:
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=IMAGE, patch_size=PATCH, embed_dim=WIDTH, depth=4, num_heads=2, num_classes=classes
    )
    return vitrim.compose(vit, *methods, num_classes=classes).double()


def pairs(count: int = 4) -> Pairs:
    return Pairs(pictures(count), *captions(count), torch.tensor([0, 1, 0, 2][:count]))


def moved(model: RetrievalModel) -> RetrievalModel:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.trained().items():
            if name not in ("temperature", "bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


REDUCERS = (
    EViT(keep=0.6, at=(1,)),
    DynamicViT(keep=0.6, at=(1,)),
    ToMe(r=3),
    Bipartite(at=(1,)),
    Pool(at=(1,)),
)


@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda each: type(each).__name__)
def test_everything_that_trains_learns_from_both_heads(reducer: Method) -> None:
    text = CrossModalText(small_blip().text_encoder, ENC, 6)
    tune_text(text, "LoRA(rank=1)", "Adapter(width=2, form='sequential')")
    model = moved(
        RetrievalModel(vision(LoRA(rank=2), reducer), text, "itc+itm", proj_dim=8, cross_proportional=True)
    )
    losses = model.train().losses(pairs())
    assert losses.itm is not None and (losses.penalty is not None) == isinstance(reducer, DynamicViT)
    losses.total.backward()
    assert not [name for name, each in model.trained().items() if each.grad is None or not each.grad.any()]


@pytest.mark.parametrize("loss", ["infonce", "siglip", "moco"])
def test_a_few_steps_bring_every_loss_down(loss: str) -> None:
    torch.manual_seed(3)
    words = WordTower(31, width=16, depth=1, heads=2, length=6).double()
    model = RetrievalModel(vision(LoRA(rank=4), Bipartite(at=(1,))), words, loss=loss, proj_dim=8, queue=8)
    optimizer = torch.optim.AdamW(model.trained().values(), lr=1e-2)
    found = []
    for _ in range(8):
        losses = model.train().losses(pairs())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        model.after_step()
        found.append(losses.itc.item())
    assert found[-1] < found[0] * 0.95
    assert 0.001 <= model.cold().item() <= 0.5


@pytest.mark.parametrize("loss", ["infonce", "siglip", "moco"])
def test_half_precision_ends_before_features_are_compared(loss: str) -> None:
    words = WordTower(31, width=16, depth=1, heads=2, length=6)
    model = RetrievalModel(vision(ToMe(r=3)).float(), words, loss=loss, proj_dim=8, queue=8).train()
    batch = pairs()
    images = batch.images.float()
    for _ in range(2):  # the second meets the queue
        with torch.autocast("cpu", torch.bfloat16):
            losses = model.losses(Pairs(images, batch.ids, batch.mask, batch.image_ids))
            cosines = model(images, batch.ids, batch.mask)
        assert losses.itc.dtype == cosines.dtype == torch.float32
        losses.total.backward()


def test_the_loss_is_that_of_its_features() -> None:
    model = moved(
        RetrievalModel(vision(), WordTower(31, width=8, heads=2, length=6).double(), proj_dim=8)
    ).eval()
    batch = pairs()
    with torch.no_grad():
        images, texts = model.towers.see(batch.images).features, model.towers.read(batch.ids, batch.mask)
        assert torch.allclose(model.losses(batch).total, infonce(images, texts, batch.image_ids, 0.07))
        assert torch.allclose(model(batch.images, batch.ids, batch.mask), images @ texts.T)
        with_tokens = model.towers.see(batch.images, tokens=True)
    assert torch.allclose(with_tokens.features, images)  # the last block's short cut changes nothing


def test_what_texts_look_at_is_weighed_by_size_and_never_padding() -> None:
    state = TokenState.start(torch.zeros(1, 5, 3), 1, (2, 2))
    assert image_bias(state, proportional=True) is None
    merged = vitrim.TokenState(
        state.tokens, 1, torch.tensor([[1.0, 2.0, 4.0, 1.0]]), state.position, state.source, (2, 2),
        keep=torch.tensor([[1.0, 1.0, 1.0, 0.0]]), moved=True,
    )  # fmt: skip
    bias = image_bias(merged, proportional=True)
    assert bias is not None
    assert bias[0].exp().tolist() == pytest.approx([1.0, 1.0, 2.0, 4.0, 0.0])
    plain = image_bias(merged, proportional=False)
    assert plain is not None and plain[0].tolist() == [0.0, 0.0, 0.0, 0.0, -torch.inf]


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    words = WordTower(31, width=8, heads=2, length=6)
    with pytest.raises(ValueError, match="needs a text tower with cross-attention"):
        RetrievalModel(vision(), words, head="itc+itm")
    with pytest.raises(ValueError, match="ends in a classifier of 3 classes"):
        RetrievalModel(vision(classes=3), words)
    with pytest.raises(ValueError, match="head must be one of 'itc', 'itc\\+itm', got 'itm'"):
        RetrievalModel(vision(), words, head="itm")
    with pytest.raises(ValueError, match=r"temperature must be in 0\.001 to 0\.5"):
        RetrievalModel(vision(), words, temperature=3.0)
    model = RetrievalModel(vision(), words.double(), proj_dim=4)
    batch = pairs(2)
    with pytest.raises(ValueError, match="negative ones mark empty places"):
        model.losses(Pairs(batch.images, batch.ids, batch.mask, torch.tensor([0, -1])))
    with pytest.raises(ValueError, match="matching needs head='itc\\+itm'"):
        model.look(model.towers.see(batch.images))


def test_matching_pairs_each_image_and_each_caption_with_one_of_another_image() -> None:
    text = CrossModalText(small_blip().text_encoder, ENC, 6).requires_grad_(False)
    model = moved(RetrievalModel(vision(ToMe(r=3)), text, "itc+itm", proj_dim=8)).eval()
    batch = pairs(2)  # two images, so each has one negative and nothing is left to chance
    with torch.no_grad():
        seen = model.look(model.towers.see(batch.images, tokens=True))
        turned = tuple((keys.flip(0), values.flip(0)) for keys, values in seen)
        right = model.match(seen, None, batch.ids, batch.mask)
        wrong = model.match(turned, None, batch.ids, batch.mask)
        found = model.losses(batch).itm
        alone = model.losses(Pairs(batch.images, batch.ids, batch.mask, torch.tensor([5, 5]))).itm
    assert found is not None and alone is not None
    assert torch.allclose(found, matching(right, torch.cat([wrong, wrong.flip(0)])))
    assert torch.allclose(alone, matching(right, None))
