"""A run on BLIP from a folder: UniAdapter, the merge, queue and matching; saved and found again."""

from pathlib import Path

import pytest
import torch
from small_captions import write_captions

pytest.importorskip("transformers")

from small_blip import ENC, WORDS, small_blip

from vitrim.retrieval.fitting import train_retrieval
from vitrim.retrieval.keeping import load_retrieval
from vitrim.retrieval.plan import RetrievalPlan, with_training


def blip_folder(folder: Path) -> Path:
    """The small BLIP and a tokenizer whose [ENC] is the last of its vocabulary, as transformers saves
    them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    small_blip().float().save_pretrained(folder)
    known = ["[PAD]", "[UNK]", "[CLS]", "a", "at", "the", "red", "green", "blue", "white", "disc", "square"]
    words = [*known, *(f"word{number}" for number in range(WORDS - 1 - len(known)))]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    assert tokenizer.convert_tokens_to_ids("[ENC]") == ENC
    tokenizer.save_pretrained(folder)
    return folder


def test_a_run_on_blip_is_saved_and_found_again(tmp_path: Path) -> None:
    folder, data = blip_folder(tmp_path / "blip"), write_captions(tmp_path / "data", count=10)
    training = with_training({"epochs": 1, "batch_size": 4, "lr": 1e-3, "workers": 0})
    plan = RetrievalPlan(
        data=f"retrieval:{data}", text=f"blip:{folder}", methods=("Bipartite(at=(1,))",), uniadapter=4,
        length=12, queue=8, training=training,
    )  # fmt: skip
    run = train_retrieval(plan, tmp_path / "run", cpu=True, quiet=True)
    assert run.model.head == "itc+itm" and run.model.loss_kind == "moco"
    assert run.found.matched is not None and run.found.pairs > 0
    assert run.record["costs"]["tokens"] == [17, 9, 9]
    assert run.record["costs"]["trained_by_tower"]["both"] > 0
    text = run.model.text
    assert text.enc_token == ENC
    model, tokenizer, _ = load_retrieval(run.folder)
    ids, mask = tokenizer(["a red disc at the left", "a white square"])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for each in (model, run.model):
            each.eval()
        both = (run.model, model)
        seen = [each.towers.see(images, tokens=True) for each in both]
        assert torch.allclose(seen[0].features, seen[1].features, atol=1e-6)
        pairs = zip(both, seen, strict=True)
        found = [each.match(each.look(one), one.bias, ids, mask) for each, one in pairs]
        assert torch.allclose(found[0], found[1], atol=1e-5)
    other = small_blip(seed=9).float()
    other.save_pretrained(folder)
    with pytest.raises(ValueError, match="is not the one this model was trained with"):
        load_retrieval(run.folder)
