"""vitrim find"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrim.cli.verbs.index import GALLERY

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
The pictures of a gallery that fit words best: one line each with the words, the path and the cosine,
separated by tabs. The gallery was made by vitrim index, whose model reads the words.
"""

EXAMPLES = """
vitrim find "a red boat"
vitrim find "a dog on a beach" "a cat" --gallery photos.safetensors --top 3
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "text", nargs="+", metavar="WORDS", help="what to look for, in quotes; several at once"
    )
    parser.add_argument(
        "--gallery", type=str, default=GALLERY, metavar="FILE", help=f"where to look (usually {GALLERY})"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many pictures (usually 5)")
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="for galleries of millions: by faiss's graph of neighbours, which may miss some",
    )
    parser.add_argument("--json", type=str | None, metavar="FILE", help="write a JSON list; - is the screen")


def run(chosen: Namespace) -> None:
    from vitrim.cli.verbs.image_text import captions_given, write_rows
    from vitrim.retrieval.gallery import Gallery, open_searcher

    gallery = Gallery.load(chosen.gallery)
    searcher, texts = open_searcher(gallery.model), captions_given(chosen.text)
    found = searcher.find(gallery, texts, chosen.top, chosen.approximate)
    rows = [(text, name, score) for text, row in zip(texts, found, strict=True) for name, score in row]
    write_rows(rows, ("text", "image"), chosen.json)
