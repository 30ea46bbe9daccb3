"""Whether what a user names is image-text retrieval; asked before anything heavy is imported."""

import json
from pathlib import Path

KIND = "retrieval"
CARRIERS = ("clip:", "blip:")  # both towers of a folder of transformers or of the Hub


def is_caption_spec(data: object) -> bool:
    """Whether this names pictures with captions."""
    return isinstance(data, str) and data.startswith(f"{KIND}:")


def is_retrieval_run(path: object) -> bool:
    """Whether this is the folder of a retrieval run, finished or not."""
    if not isinstance(path, str | Path):
        return False
    file = Path(path) / "run.json"
    try:
        with file.open(encoding="utf-8") as stream:
            record = json.loads(stream.read(2**24))
    except (OSError, ValueError, RecursionError):
        return False  # whoever opens it says what is wrong
    return isinstance(record, dict) and isinstance(record.get(KIND), dict)
