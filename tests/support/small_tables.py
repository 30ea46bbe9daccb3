"""Pictures in a table whose labels are several a picture, numbers, or classes of very different sizes."""

from pathlib import Path

import torch
from PIL import Image


def _picture(file: Path, colour: tuple[int, int, int], generator: torch.Generator) -> None:
    noise = torch.randint(-20, 20, (24, 24, 3), generator=generator)
    Image.fromarray((torch.tensor(colour) + noise).clamp(0, 255).byte().numpy()).save(file)


def _split(index: int, count: int) -> str:
    return "train" if index < count // 2 else ("val" if index < 3 * count // 4 else "test")


def table_of_labels(folder: Path, count: int = 64, form: str = "bars") -> str:
    """The colour of each picture, and whether it is dark. Returns the spec."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    lines = ["path,blue,dark,green,red,split" if form == "columns" else "path,label,split"]
    for index in range(count):
        hue, dark = index % 3, bool(index // 3 % 2)
        level = 90 if dark else 220
        _picture(folder / f"{index}.png", ((level, 10, 10), (10, 10, level), (10, level, 10))[hue], generator)
        labels = [*(["red"], ["blue"], ["green"])[hue], *(["dark"] if dark else [])]
        cell = {
            "bars": "|".join(labels),
            "lists": '"' + str(labels).replace('"', '""') + '"',
            "columns": ",".join(str(int(name in labels)) for name in ("blue", "dark", "green", "red")),
        }[form]
        lines.append(f"{index}.png,{cell},{_split(index, count)}")
    (folder / f"{form}.csv").write_text("\n".join(lines))
    return f"csv:{folder}/{form}.csv"


def table_of_numbers(folder: Path, count: int = 64) -> str:
    """How bright a picture is, in odd units, and how red. Returns the spec of both columns."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    lines = ["path,brightness,redness,split"]
    for index in range(count):
        red, blue = torch.randint(20, 235, (2,), generator=generator).tolist()
        _picture(folder / f"{index}.png", (red, (red + blue) // 2, blue), generator)
        lines.append(
            f"{index}.png,{5000 + 10.5 * (red + blue)},{(red - blue) / 255:.4f},{_split(index, count)}"
        )
    (folder / "numbers.csv").write_text("\n".join(lines))
    return f"csv:{folder}/numbers.csv?label=brightness,redness"
