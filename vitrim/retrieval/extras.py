"""What comes with the extra `retrieval`, or a sentence that says how to get it."""

from importlib import import_module
from types import ModuleType
from typing import Any


def need_transformers(what: str) -> ModuleType:
    """transformers, for text encoders, CLIP and BLIP."""
    try:
        return import_module("transformers")
    except ImportError:
        raise ImportError(f'{what} needs transformers: pip install "vitrim[retrieval]"') from None


def opened(kind: str, source: str, what: str, **options: Any) -> Any:
    """What a class of transformers reads from a folder or the Hub; nothing is unpickled."""
    transformers = need_transformers(f"the {what} of {source!r}")
    try:
        return getattr(transformers, kind).from_pretrained(source, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        said = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{source!r} gives no {what} ({said}); give a folder that transformers saved, with safetensors "
            "weights and the files of its tokenizer"
        ) from None
