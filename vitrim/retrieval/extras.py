"""Packages that come with the extra `retrieval`, or a sentence that says how to get them."""

from importlib import import_module
from types import ModuleType


def need_transformers(what: str) -> ModuleType:
    """transformers, for text encoders and BLIP."""
    try:
        return import_module("transformers")
    except ImportError:
        raise ImportError(f'{what} needs transformers: pip install "vitrim[retrieval]"') from None
