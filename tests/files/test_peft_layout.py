"""LoRA in the PEFT library's file layout: what is written here computes the same there, and the reverse."""

import json
from pathlib import Path

import pytest
import torch
from toys import images, toy, wake

from vitrim import LoRA, compose
from vitrim.files.peft_layout import load_peft, save_peft

peft = pytest.importorskip("peft", reason="the PEFT library is not installed (pip install peft)")

OURS = [
    ("vit", LoRA(rank=3, scale=0.5)),
    ("vit", LoRA(rank=2, roles=("query", "attention_out", "mlp_in", "mlp_out"), alpha=6)),
    ("vit", LoRA(rank=4, scale=2.0, roles=("query", "key", "value", "mlp_out"), shared=True)),
    ("dinov2-registers", LoRA(rank=(0, 1, 2, 3) * 3, roles=("key", "value"))),
    ("vit", LoRA(rank=8, bits=2)),
    ("eva02", LoRA(rank=2, scale=0.1, roles=("query", "key", "mlp_in"))),
    ("distilled", LoRA(rank=2)),
]


@pytest.mark.parametrize(("family", "method"), OURS, ids=str)
def test_peft_computes_what_was_written_here(tmp_path: Path, family: str, method: LoRA) -> None:
    model = wake(compose(toy(family), method)).eval()
    save_peft(model, tmp_path)
    plain = toy(family)
    plain.load_state_dict(
        {name: value for name, value in model.vit.state_dict().items() if "terms" not in name}
    )
    for head in [plain.get_classifier()] if family != "distilled" else plain.get_classifier():
        torch.nn.init.zeros_(head.weight)  # so that it has to come from the adapter
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images(model)), model(images(model)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("family", "method"), OURS, ids=str)
def test_what_was_written_here_is_read_back(tmp_path: Path, family: str, method: LoRA) -> None:
    model = wake(compose(toy(family), method)).eval()
    save_peft(model, tmp_path)
    backbone = toy(family)
    backbone.load_state_dict({n: v for n, v in model.vit.state_dict().items() if "terms" not in n})
    again = load_peft(tmp_path, backbone).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(images(model)), model(images(model)), rtol=1e-9, atol=1e-9)
    if method.bits is None and method.alpha is None:
        assert repr(again.methods[0]) == repr(method)
        assert set(again.trained()) == set(model.trained())


THEIRS = [
    ("vit", {"target_modules": ["qkv"], "r": 4, "lora_alpha": 16}),
    ("vit", {"target_modules": ["fc1", "fc2"], "r": 2, "lora_alpha": 3, "use_rslora": True}),
    ("dinov2", {"target_modules": r"blocks\.([02-9]|1\d)\.(attn\.(qkv|proj)|mlp.fc2)", "lora_dropout": 0.1}),
    ("vit", {"target_modules": ["fc1"], "rank_pattern": {"[2-9]\\..*": 5}, "alpha_pattern": {"fc1": 2}}),
    ("eva02", {"target_modules": ["q_proj", "v_proj"], "r": 2, "modules_to_save": ["head"]}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "config"), THEIRS, ids=[f"{f}-{i}" for i, (f, _) in enumerate(THEIRS)])
def test_this_library_computes_what_peft_wrote(tmp_path: Path, family: str, config: dict) -> None:
    theirs = wake(peft.get_peft_model(toy(family), peft.LoraConfig(**config)), seed=3).eval()
    theirs.save_pretrained(tmp_path)
    backbone = toy(family)
    own = theirs.get_base_model().state_dict()
    own = {
        name.replace("base_layer.", "").replace("original_module.", ""): value for name, value in own.items()
    }
    backbone.load_state_dict({name: own[name] for name in backbone.state_dict()})
    model = load_peft(tmp_path, backbone, "EViT(keep=1.0, at=(3,))" if family == "vit" else "Linear()").eval()
    x = images(model)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs(x), rtol=1e-9, atol=1e-9)


def test_what_the_layout_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"PEFT's layout holds LoRA and a head, not Adapter\(width=8"):
        save_peft(compose(toy(), "LoRA()", "Adapter()"), tmp_path)
    with pytest.raises(ValueError, match="not a model without LoRA"):
        save_peft(compose(toy()), tmp_path)
    with pytest.raises(ValueError, match=r"timm never calls blocks.0.attn.qkv of this backbone"):
        save_peft(compose(toy("dinov3-qkvb"), LoRA()), tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"holds no adapter_config.json; give the folder of a PEFT adapter"
    ):
        load_peft(tmp_path, toy())


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"target_modules": ["qkv"], "use_dora": True},
            "PEFT's use_dora=True, which LoRA here does not compute",
        ),
        ({"target_modules": ["qkv"], "bias": "lora_only"}, "PEFT's bias='lora_only'"),
        ({"target_modules": ["qkv"], "lora_bias": True}, "PEFT's lora_bias=True"),
        (
            {"target_modules": ["patch_embed.proj"]},
            "holds patch_embed.proj.lora_A.weight; LoRA of linear layers",
        ),
        (
            {"target_modules": ["blocks.1.mlp.fc1", "blocks.0.mlp.fc2"]},
            "leaves out mlp_in of fc1 in block 0 only",
        ),
        ({"target_modules": ["fc1", "fc2"], "rank_pattern": {"fc2": 3}}, "has several ranks in block 0"),
        ({"target_modules": ["qkv"], "modules_to_save": ["norm"]}, "holds norm.bias; LoRA of linear layers"),
    ],
)
def test_what_lora_here_cannot_compute_is_refused(tmp_path: Path, config: dict, sentence: str) -> None:
    peft.get_peft_model(toy(depth=2), peft.LoraConfig(**config)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        load_peft(tmp_path, toy(depth=2))


def test_another_kind_of_adapter_is_refused(tmp_path: Path) -> None:
    save_peft(compose(toy(), LoRA()), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "LOHA"}))
    with pytest.raises(ValueError, match="of PEFT's type LOHA; only LORA can be read"):
        load_peft(tmp_path, toy())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "line 1: not valid JSON"),
        (b"[]", "holds no settings by name"),
        (b"null", "holds no settings by name"),
        (b"[" * 99_999, "nested too deep"),
        (b'{"a":' * 99_999, "nested too deep"),
        (b'{"r": ' + b"9" * 5000 + b"}", "a number in it has thousands of digits"),
        (b"\xff\xfe", "not text in UTF-8"),
    ],
    ids=lambda given: str(given)[:30],
)
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    save_peft(compose(toy(), LoRA()), tmp_path)
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        load_peft(tmp_path, toy())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": "8"}, "must hold a number"),
        ({"r": 0}, "from 1 to"),
        ({"r": 10**400}, "from 1 to"),
        ({"lora_alpha": None}, "must hold a number"),
        ({"lora_alpha": float("nan")}, "must hold a number"),
        ({"rank_pattern": [8]}, "values by layer"),
        ({"rank_pattern": {"(": 8}}, "no pattern"),
        ({"alpha_pattern": {"qkv": "x"}}, "must hold a number"),
        ({"r": 4}, "the rank 4, its weights have 16"),
    ],
    ids=str,
)
def test_ranks_and_factors_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    save_peft(compose(toy(depth=2), LoRA(rank=8)), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=said):
        load_peft(tmp_path, toy(depth=2))
