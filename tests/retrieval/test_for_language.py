"""A reduced vision tower in front of a language model, on a small LLaVA with random weights."""

from pathlib import Path

import pytest
import torch
from toys import FAMILIES

from vitrim import Bipartite, DynamicViT, ToMe, compose
from vitrim.measuring.counting import MacCounter, counting
from vitrim.retrieval.for_language import LanguageVisionTower, prefill_macs, spliced

transformers = pytest.importorskip("transformers")
IMAGE_TOKEN = 3


def small_llava() -> torch.nn.Module:
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2, image_size=32,
        patch_size=4, projection_dim=16,
    )  # fmt: skip
    text = transformers.LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=IMAGE_TOKEN, image_token_index=IMAGE_TOKEN
    )
    return transformers.LlavaForConditionalGeneration(config).double().eval()


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """The model, and its vision tower saved as transformers saves it."""
    model, folder = small_llava(), tmp_path_factory.mktemp("tower")
    tower = model.model.vision_tower
    with torch.no_grad():
        for parameter in tower.parameters():
            moved = parameter + 0.2 * torch.randn_like(parameter)
            parameter.copy_(moved.float())  # which is the precision a checkpoint is read in
    whole = transformers.CLIPVisionModel(model.config.vision_config).double()
    own = whole.state_dict()
    given = {name.removeprefix("vision_model."): value for name, value in tower.state_dict().items()}
    whole.load_state_dict({name: given[name.removeprefix("vision_model.")] for name in own})
    whole.save_pretrained(folder)
    return model, folder


def prompt(patches: int) -> torch.Tensor:
    return torch.tensor([[1, 5, *[IMAGE_TOKEN] * patches, 7, 8, 9]])


def test_without_a_reducer_the_language_model_sees_what_it_saw(llava: tuple) -> None:
    model, folder = llava
    tower = LanguageVisionTower(compose(str(folder), num_classes=0).double().eval(), layer=-2)
    images, ids = torch.randn(1, 3, 32, 32, dtype=torch.float64), prompt(64)
    with torch.no_grad():
        theirs = model(input_ids=ids, pixel_values=images).logits
        seen = tower(images)
        inside = model.model.multi_modal_projector(seen.tokens)
        embedded = spliced(model.get_input_embeddings()(ids), ids, IMAGE_TOKEN, inside)
        ours = model(inputs_embeds=embedded).logits
    assert seen.count == 64 and seen.position.tolist() == [list(range(64))]
    assert torch.allclose(ours, theirs, atol=1e-10)


def test_a_merge_halves_the_tokens_and_the_prefill_pays_for_those_alone(llava: tuple) -> None:
    model, folder = llava
    vision = compose(str(folder), Bipartite(at=(1,)), num_classes=0).double().eval()
    images, ids = torch.randn(1, 3, 32, 32, dtype=torch.float64), prompt(64)
    counts = []
    for tower in (LanguageVisionTower(compose(str(folder), num_classes=0).double().eval()), vision):
        tower = tower if isinstance(tower, LanguageVisionTower) else LanguageVisionTower(tower, layer=-2)
        with torch.no_grad():
            seen = tower(images)
            inside = model.model.multi_modal_projector(seen.tokens)
            embedded = spliced(model.get_input_embeddings()(ids), ids, IMAGE_TOKEN, inside)
            counter = MacCounter()
            with counting(counter):
                model.model.language_model(inputs_embeds=embedded)
        assert embedded.shape[1] == seen.count + 5
        assert counter.total == prefill_macs(model.config.text_config, embedded.shape[1])
        counts.append(seen.count)
    assert counts == [64, 32]
    assert seen.sizes.sum().item() == 64 and (seen.position.diff(dim=1) > 0).all()
    rows, columns = seen.rows_and_columns()
    assert torch.equal(rows * 8 + columns, seen.position) and rows.max() < 8


def test_what_cannot_be_given_to_a_language_model_is_refused() -> None:
    vision = compose(FAMILIES["vit"](), ToMe(r=4), num_classes=0)
    with pytest.raises(ValueError, match="layer counts from the end, -1 to -12"):
        LanguageVisionTower(vision, layer=0)
    masks = LanguageVisionTower(compose(FAMILIES["vit"](), DynamicViT(at=(3,)), num_classes=0).train())
    with pytest.raises(ValueError, match="masks tokens here instead of removing"):
        masks(torch.randn(1, 3, 32, 32))
    embedded = torch.zeros(1, 5, 8)
    with pytest.raises(ValueError, match="one run of the image token"):
        spliced(embedded, torch.tensor([[3, 1, 3, 1, 1]]), 3, torch.zeros(1, 2, 8))
    with pytest.raises(ValueError, match="project them first"):
        spliced(embedded, torch.tensor([[3, 3, 1, 1, 1]]), 3, torch.zeros(1, 2, 4))
