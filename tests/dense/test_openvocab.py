"""Open vocabulary: the proxied attention against the official outputs, and what must hold of it."""

import json
import zlib
from copy import deepcopy
from pathlib import Path

import numpy
import pytest
import torch
from golden import Golden, assert_close, projection
from timm.models.vision_transformer import Block
from torch import nn
from toys import images, toy

from vitrim import EViT, LoRA, ToMe, compose
from vitrim.dense.adapting import learn_masks, match_unreduced, without_reducers
from vitrim.dense.openvocab import OpenVocabulary
from vitrim.dense.proxied import proxied_last_block, proxy_attention
from vitrim.dense.restoring import unreduced_error
from vitrim.dense.templates import TEMPLATES
from vitrim.dense.text_tower import clip_text
from vitrim.dense.vocabulary import Vocabulary


def generated(name: str, shape: list[int]) -> torch.Tensor:
    """The third family's rules."""
    values = numpy.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    scaled = 0.1 * values if name.endswith("bias") else values / numpy.sqrt(numpy.prod(shape[1:]))
    return torch.from_numpy(scaled)


def test_the_proxied_attention_is_the_official_one() -> None:
    golden = Golden("proxyclip_attn_g4_v6")
    about, config = golden.about, golden.about["config"]
    generator = numpy.random.default_rng(about["input_seed"])
    grid, cells = config["clip_grid"], config["vfm_grid"]
    x = torch.from_numpy(generator.standard_normal((config["B"], 1 + grid[0] * grid[1], config["dim"])))
    other = torch.from_numpy(
        about["feature_offset"] + generator.standard_normal((config["B"], config["vfm_dim"], *cells))
    )
    assert x.sum().item() == pytest.approx(about["input_check_sum_first"][0])
    block = Block(config["dim"], config["num_heads"], qkv_bias=True).double()
    block.norm1 = nn.Identity()  # the input is normed already
    for name, layer in (("in_proj_", block.attn.qkv), ("out_proj.", block.attn.proj)):
        for kind in ("weight", "bias"):
            value = generated(f"attn.{name}{kind}", about["params"][f"attn.{name}{kind}"])
            getattr(layer, kind).data = value
    patches = x[:, 1:].transpose(1, 2).unflatten(2, grid)
    found = proxied_last_block(block, patches, other, config["beta"], config["gamma"])
    tokens = found.flatten(2).transpose(1, 2).detach()
    attention = proxy_attention(other, config["beta"], config["gamma"])
    assert_close(projection(tokens), golden["out_proj"])
    assert_close(tokens[:, 0, :8], golden["out_first8"])
    assert_close(tokens[:, -1, :8], golden["out_last8"])
    assert_close((attention > 0).sum(-1), golden["kept_per_row"])
    assert_close(attention[0, 0], golden["attention_row0"])


def test_attention_sums_to_one_by_image_and_never_is_nothing() -> None:
    torch.manual_seed(0)
    features = 0.3 + torch.randn(3, 5, 4, 6, dtype=torch.float64)
    found = proxy_attention(features)
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 24, dtype=torch.float64))
    assert 0 < (found == 0).double().mean() < 1
    assert torch.equal(proxy_attention(features[1:2]), found[1:2])
    blank = proxy_attention(torch.ones(1, 5, 4, 6))  # beta times the mean is above every similarity
    assert torch.equal(blank[0], torch.eye(24))


def open_model(
    *methods: object, proxied: bool = True, vfm: bool = True, **settings: object
) -> OpenVocabulary:
    clip = compose(toy(depth=6), *methods).eval()
    other = compose(toy("dinov2-registers", depth=3), num_classes=0).eval() if proxied and vfm else None
    torch.manual_seed(1)
    words = Vocabulary.of_features(["sky; cloud", "dog", "car"], torch.randn(4, 5))
    return OpenVocabulary(clip, other, vocabulary=words, proxied=proxied, **settings)


def test_reduced_and_restored_equals_unreduced_where_all_is_kept_and_is_near_it_else() -> None:
    for proxied, vfm in ((True, True), (True, False), (False, False)):
        whole = open_model(proxied=proxied, vfm=vfm)
        x = images(whole.clip, batch=2)
        wanted = whole(x)
        assert wanted.shape == (2, 4, 32, 32) and wanted.abs().max() <= 1
        kept = open_model(EViT(keep=1.0, at=(2,)), proxied=proxied, vfm=vfm)
        assert torch.equal(kept(x), wanted)
        reduced = open_model(EViT(keep=0.7, at=(2, 3)), proxied=proxied, vfm=vfm)
        assert not torch.equal(reduced(x), wanted)
        torch.testing.assert_close(reduced(x)[1:], reduced(x[1:]))
        assert torch.equal(without_reducers(reduced)(x), wanted)


def test_larger_pictures_go_through_windows() -> None:
    model = open_model(ToMe(r=3, at=(2, 3)))
    x = torch.randn(1, 3, 40, 50, dtype=torch.float64)
    labels = model.segment(x, stride=16)
    assert labels.shape == (1, 40, 50) and set(labels.unique().tolist()) <= {0, 1, 2}
    assert (model.segment(x, stride=16, threshold=1.0) == 0).all()


def test_adapters_learn_to_match_without_labels_and_results_say_so() -> None:
    """Also that the head stays, and that supervised training counts as such."""
    torch.manual_seed(0)
    model = open_model(LoRA(rank=2, at=(3, 4)), EViT(keep=0.5, at=(2, 3)))
    x = images(model.clip, batch=2)
    wanted = without_reducers(model).features(x)
    before, head = unreduced_error(model.features(x), wanted), deepcopy(model.clip.vit.head.state_dict())
    assert model.protocol == "P0"
    losses = match_unreduced(model, [x] * 5, lr=1e-2)
    assert model.protocol == "P1" and losses[-1] < losses[0]
    assert unreduced_error(model.features(x), wanted) < before
    assert all(torch.equal(head[name], value) for name, value in model.clip.vit.head.state_dict().items())
    labels = torch.full((2, 32, 32), 1)
    labels[:, :4] = 255
    losses = learn_masks(model, [(x, labels)] * 4, lr=1e-2)
    assert losses[-1] < losses[0] and model.protocol == "P2"
    match_unreduced(model, [x])
    assert model.protocol == "P2"


def test_words_are_averaged_over_templates_and_kept(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def encode(sentences: list[str]) -> torch.Tensor:
        asked.append(sentences)
        generator = torch.Generator().manual_seed(len(sentences[0]))
        return torch.randn(len(sentences), 5, generator=generator)

    file = tmp_path / "words.safetensors"
    words = Vocabulary.of_text(["sky; cloud", "dog"], encode, cache=file, called="toy")
    assert len(TEMPLATES) == 80 == len(set(TEMPLATES)) and [len(each) for each in asked] == [80] * 3
    assert asked[2][0] == "a bad photo of a dog." and words.owner == (0, 0, 1)
    assert words.table.names == ("sky", "dog")
    torch.testing.assert_close(words.rows.norm(dim=1), torch.ones(3))
    again = Vocabulary.of_text(["sky; cloud", "dog"], encode, cache=file, called="toy")
    assert torch.equal(again.rows, words.rows) and len(asked) == 3
    Vocabulary.of_text(["sky", "dog"], encode, cache=file, called="toy")
    assert len(asked) == 5
    shares = words.probabilities(torch.tensor([0.1, 0.2, 0.15])[None, :, None, None])
    wanted = (40 * torch.tensor([0.1, 0.2, 0.15])).softmax(0)
    torch.testing.assert_close(shares[0, :, 0, 0], wanted[1:])  # the likelier of two names


def test_the_text_tower_of_transformers(tmp_path: Path) -> None:
    """A tiny random one: features do not depend on the other sentences, and words tell them apart."""
    transformers = pytest.importorskip("transformers")
    letters = [*"abcdefghijklmnopqrstuvwxyz."]
    written = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(written)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    files = str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    transformers.CLIPTokenizer(*files, model_max_length=77).save_pretrained(tmp_path)
    end = len(written) - 1
    settings = transformers.CLIPTextConfig(
        vocab_size=len(written), hidden_size=16, intermediate_size=32, num_hidden_layers=1, projection_dim=5,
        num_attention_heads=2, eos_token_id=end, bos_token_id=end - 1, pad_token_id=end,
    )  # fmt: skip
    transformers.CLIPTextModelWithProjection(settings).save_pretrained(tmp_path)
    encode = clip_text(tmp_path, batch_size=2)
    features = encode(["a photo of a dog.", "a cat", "dog"])
    assert features.shape == (3, 5) and not torch.allclose(features[1], features[2])
    torch.testing.assert_close(encode(["dog"]), features[2:])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no text tower of CLIP that transformers can open"):
        clip_text(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        clip_text(tmp_path / "none")


def test_a_backbones_own_classifier_is_a_vocabulary() -> None:
    """Proxied or not: with all patches alike, a cell says what the classifier says of it."""
    model = compose(toy(depth=4)).eval()
    words = Vocabulary.of_classifier(model, {"animal": (1, 3), "thing": 4})
    found = OpenVocabulary(model, vocabulary=words, proxied=False)
    x = images(model)
    grid = model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)[0]
    wanted = model.vit.head(grid.movedim(1, -1)).movedim(-1, 1)[:, [1, 3, 4]]
    torch.testing.assert_close(words.similarities(found.features(x)), wanted)
    shares = words.probabilities(wanted)
    torch.testing.assert_close(shares[:, 0], wanted.softmax(1)[:, :2].amax(1))
    with pytest.raises(ValueError, match="class 'x' names output 5, but the classifier has outputs 0 to 4"):
        Vocabulary.of_classifier(model, {"x": 5})


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    words = Vocabulary.of_features(["a"], torch.randn(1, 7))
    for clip, settings, sentence in (
        (compose(toy("siglip", depth=4)), {}, "pools by attention, so its patches have no place among words"),
        (compose(toy(depth=4), num_classes=0), {}, "has no classifier or projection"),
        (compose(toy(depth=4), EViT(at=(3,))), {}, "reads every patch, but EViT"),
        (compose(toy(depth=4)), {"restore": "fuse_last"}, "restore must be one of 'delta', 'copy', 'knn'"),
        (
            compose(toy(depth=4)),
            {"proxied": False, "vfm": compose(toy(depth=4), num_classes=0)},
            "leave vfm out",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            OpenVocabulary(clip, vocabulary=words, **settings)
    model = OpenVocabulary(compose(toy(depth=4)), vocabulary=words)
    with pytest.raises(ValueError, match="patches have 5 features, the vocabulary's rows 7"):
        model(images(model.clip))
    with pytest.raises(ValueError, match="has anything to train"):
        match_unreduced(model, [])
    with pytest.raises(ValueError, match=r"2 names \(synonyms included\) need as many rows"):
        Vocabulary.of_features(["a; b"], torch.randn(1, 7))
