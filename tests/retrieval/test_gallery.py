"""CLIP as it comes, a folder indexed by it, and what words find there."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from vitrim.retrieval.building import build
from vitrim.retrieval.gallery import Gallery, Searcher, open_searcher
from vitrim.retrieval.plan import RetrievalPlan

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "boat", "dog"]


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with random weights and its tokenizer, as transformers saves them."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    shape = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**shape, "image_size": 32, "patch_size": 8},
        text_config={**shape, "vocab_size": len(WORDS), "max_position_embeddings": 40, "eos_token_id": 3},
        projection_dim=12,
    )
    model = transformers.CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.logit_scale.fill_(3.0)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def searcher(clip: Path) -> Searcher:
    return open_searcher(f"clip:{clip}")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    for number, colour in enumerate(("red", "blue", "grey", "white", "green")):
        Image.new("RGB", (40, 32), colour).save(folder / f"{number}.png")
    return sorted(map(str, folder.glob("*.png")))


def test_features_are_those_of_transformers(clip: Path, searcher: Searcher) -> None:
    theirs = transformers.CLIPModel.from_pretrained(clip).eval()
    images = torch.randn(2, 3, 32, 32)
    ids, mask = searcher.tokenizer(["a red boat", "a dog"])
    with torch.no_grad():
        found = theirs(input_ids=ids, attention_mask=mask, pixel_values=images)
        assert torch.allclose(searcher.model.towers.see(images).features, found.image_embeds, atol=1e-5)
        assert torch.allclose(searcher.model.towers.read(ids, mask), found.text_embeds, atol=1e-5)
    assert searcher.model.temperature.item() == pytest.approx(torch.tensor(-3.0).exp().item())


def test_siglip_too_with_its_own_scale_bias_and_padding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        vision_config={**shape, "image_size": 32, "patch_size": 8},
        text_config={**shape, "vocab_size": len(WORDS), "max_position_embeddings": 9, "projection_size": 24},
    )
    theirs = transformers.SiglipModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        theirs.logit_scale.fill_(2.5)
        theirs.logit_bias.fill_(-4.0)
    theirs.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    found = open_searcher(f"clip:{tmp_path}")
    images = torch.randn(2, 3, 32, 32)
    ids, mask = found.tokenizer(["a red boat", "a dog"])
    assert ids.shape == (2, 9) and found.model.loss_kind == "siglip"
    with torch.no_grad():
        logits = theirs(input_ids=ids, pixel_values=images).logits_per_image
        model = found.model
        ours = model(images, ids, mask) * model.temperature.exp() + model.bias
    assert torch.allclose(ours, logits, atol=1e-4)


def test_a_text_encoder_of_a_folder_is_tuned_as_asked(clip: Path) -> None:
    plan = RetrievalPlan(
        data="", text=str(clip), text_methods=("LoRA(rank=2)",), image_size=(32, 32), length=7
    )
    model, tokenizer = build(plan, [])
    assert type(model.text.model).__name__ == "CLIPTextModel" and model.text.pooling == "last"
    assert model.trained_by_tower()["text"] == 2 * 2 * 2 * 2 * 24
    assert tokenizer(["a Red boat!"])[0].tolist() == [[2, 4, 5, 7, 3, 0, 0]]


def test_words_find_pictures_in_the_order_of_their_cosines(searcher: Searcher, pictures: list[str]) -> None:
    gallery = searcher.index(pictures, batch_size=2)
    assert len(gallery) == 5 and torch.allclose(gallery.features.norm(dim=1), torch.ones(5))
    (found,) = searcher.find(gallery, ["a red boat"], top=3)
    cosines = (searcher.texts(["a red boat"]) @ gallery.features.T)[0]
    best = cosines.argsort(descending=True)[:3].tolist()
    assert [name for name, _ in found] == [gallery.names[number] for number in best]
    assert found[0][1] == pytest.approx(cosines.max().item())
    assert len(searcher.find(gallery, ["a dog"], top=50)[0]) == 5
    scores, numbers = searcher.fitting(gallery, ["a red boat", "a dog"], top=1)
    both = gallery.features @ searcher.texts(["a red boat", "a dog"]).T
    assert (
        torch.allclose(scores[:, 0], both.max(1).values) and numbers[:, 0].tolist() == both.argmax(1).tolist()
    )
    for refused in (
        lambda: searcher.find(gallery, ["a dog"], top=0),
        lambda: searcher.fitting(gallery, ["a dog"], top=0),
        lambda: searcher.index(pictures, batch_size=0),
    ):
        with pytest.raises(ValueError, match="must be a whole number of at least 1, got 0"):
            refused()


def test_a_gallery_is_one_file_and_belongs_to_its_model(
    searcher: Searcher, pictures: list[str], tmp_path: Path
) -> None:
    gallery = searcher.index(pictures)
    gallery.save(tmp_path / "gallery.safetensors")
    again = Gallery.load(tmp_path / "gallery.safetensors")
    assert again.names == gallery.names and torch.equal(again.features, gallery.features)
    other = Gallery(again.features, again.names, again.model, "of others")
    with pytest.raises(ValueError, match="other weights than"):
        searcher.find(other, ["a dog"])
    with pytest.raises(FileNotFoundError, match="make one with vitrim index"):
        Gallery.load(tmp_path / "nothing")
    (tmp_path / "half").write_bytes((tmp_path / "gallery.safetensors").read_bytes()[:50])
    with pytest.raises(ValueError, match="damaged and cannot be read"):
        Gallery.load(tmp_path / "half")


def test_broken_pictures_are_refused_or_listed(
    searcher: Searcher, pictures: list[str], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="is not an image"):
        searcher.index([*pictures, str(tmp_path / "broken.png")])
    broken: list[str] = []
    assert len(searcher.index([str(tmp_path / "broken.png"), *pictures], broken=broken)) == 5
    assert len(broken) == 1
    with pytest.raises(ValueError, match="none of the pictures"):
        searcher.index([str(tmp_path / "broken.png")], broken=[])


def test_a_graph_of_neighbours_finds_the_nearest_of_a_few() -> None:
    pytest.importorskip("faiss")
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(200, 16), dim=1)
    gallery = Gallery(features, tuple(map(str, range(200))), "", "")
    exact, near = (gallery.nearest(features[:20], 1, approximate=way) for way in (False, True))
    assert exact[1][:, 0].tolist() == near[1][:, 0].tolist() == list(range(20))
