"""Formula images that fill the frame: waves, clouds and fields.

Functions take `fixed`, the generator of the class, and `rng`, the generator of the image, and return floats
near 0..1 shaped [96, 96, 3]. What a class fixes is read from `fixed` first, then varied with `rng`.
"""

from __future__ import annotations

import numpy as np

SIZE = 96
ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE] / (SIZE / 2) - 1.0  # both in -1..1

Array = np.ndarray
Random = np.random.Generator


def noise(rng: Random, slope: float, stretch: float = 1.0, angle: float = 0.0, band: float = 0.0) -> Array:
    """Noise with gain 1 / frequency^slope, stretched along an angle, around a band, in 0..1. [96, 96]"""
    fy, fx = np.fft.fftfreq(SIZE)[:, None] * SIZE, np.fft.rfftfreq(SIZE)[None] * SIZE
    along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    radius = np.hypot(along * stretch, across / stretch)
    gain = (np.abs(radius - band) + 1.0) ** -slope
    gain[0, 0] = 0.0
    spectrum = gain * (rng.normal(size=gain.shape) + 1j * rng.normal(size=gain.shape))
    field = np.fft.irfft2(spectrum, s=(SIZE, SIZE))
    return np.clip(0.5 + field / (4.0 * field.std() + 1e-9), 0.0, 1.0)


def paint(level: Array, palette: Array) -> Array:
    """Read a 0..1 map through a palette of colours spread evenly over 0..1. [96, 96] -> [96, 96, 3]"""
    stops = np.linspace(0.0, 1.0, len(palette))
    return np.stack([np.interp(level, stops, palette[:, c]) for c in range(3)], axis=-1)


def waves(fixed: Random, rng: Random) -> Array:
    """Two or three gratings added, multiplied or overlaid."""
    count, how, steep = int(fixed.integers(2, 4)), int(fixed.integers(0, 3)), fixed.choice([1.0, 3.0, 20.0])
    lengths, angles = fixed.uniform(2.0, 14.0, count), fixed.uniform(0.0, np.pi, count)
    angles = angles + rng.uniform(-0.3, 0.3)
    lengths = lengths * np.exp(rng.uniform(-0.15, 0.15))
    phase = rng.uniform(0, 2 * np.pi, count)
    bend = 0.15 * rng.random() * (noise(rng, 3.0) - 0.5)  # real gratings are never quite straight
    parts = []
    for k in range(count):
        along = COLUMNS * np.cos(angles[k]) + ROWS * np.sin(angles[k]) + bend
        parts.append(np.tanh(steep * np.sin(np.pi * lengths[k] * along + phase[k])) / np.tanh(steep))
    level = (np.mean(parts, axis=0), np.prod(parts, axis=0), np.max(parts, axis=0))[how] / 2 + 0.5
    return paint(level, rng.random((2, 3)))


def clouds(fixed: Random, rng: Random) -> Array:
    """Coloured noise: smooth, folded into ridges, or cut into terraces."""
    slope, stretch, angle = fixed.uniform(0.6, 3.0), fixed.uniform(1.0, 2.5), fixed.uniform(0, np.pi)
    band, fold = fixed.choice([0.0, 0.0, 4.0, 10.0]), int(fixed.integers(0, 3))
    palette = fixed.random((3, 3))
    level = noise(rng, slope, stretch, angle + rng.uniform(-0.2, 0.2), band)
    if fold == 1:
        level = np.abs(2 * level - 1)
    if fold == 2:
        level = np.round(level * 4) / 4
    return paint(level, np.clip(palette + rng.normal(0, 0.08, (3, 3)), 0, 1))


def fields(fixed: Random, rng: Random) -> Array:
    """Land seen from above: cells with their own colour and furrows, roads across them, blocks on top."""
    cells, squareness, furrow = int(np.exp(fixed.uniform(1.0, 4.0))), fixed.random(), fixed.random() * 0.4
    roads, blocks, rough = int(fixed.integers(0, 4)), int(fixed.integers(0, 4) * 8), fixed.uniform(0.05, 0.4)
    tint = fixed.random(3)
    tint = 0.7 * (tint + tint.mean()) / 2  # land is duller than paint
    palette = np.clip(tint + fixed.normal(0.0, 0.08, (4, 3)), 0, 1)
    palette = np.clip(palette + rng.normal(0, 0.05, (4, 3)), 0, 1)
    turn, seeds = rng.uniform(0, np.pi), rng.uniform(-1.1, 1.1, (cells, 2))
    bend = 0.1 * (noise(rng, 2.5) - 0.5)
    u = COLUMNS * np.cos(turn) + ROWS * np.sin(turn) + bend
    v = ROWS * np.cos(turn) - COLUMNS * np.sin(turn)
    du, dv = np.abs(u[..., None] - seeds[:, 0]), np.abs(v[..., None] - seeds[:, 1])
    owner = (squareness * np.maximum(du, dv) + (1 - squareness) * np.hypot(du, dv)).argmin(axis=-1)
    angle, length = rng.choice([0.0, np.pi / 2, 0.7], cells)[owner], rng.uniform(10, 30, cells)[owner]
    rows = np.sin(np.pi * length * (u * np.cos(angle) + v * np.sin(angle)))
    colour = palette[rng.integers(0, 4, cells)[owner]]
    light = rng.random(cells)[owner] * furrow * rows / 2 + rough * (noise(rng, 1.0) - 0.5)
    picture = colour + light[..., None]
    for _ in range(roads):
        a, offset = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]), rng.uniform(-0.8, 0.8)
        near = np.abs(u * np.cos(a) + v * np.sin(a) + bend - offset) < rng.uniform(0.01, 0.04)
        picture[near] = palette[0] * 0.3 + 0.6
    for x, y in rng.uniform(-1, 1, (blocks, 2)):
        inside = (np.abs(u - x) < rng.uniform(0.03, 0.09)) & (np.abs(v - y) < rng.uniform(0.03, 0.09))
        picture[inside] = rng.uniform(0.3, 1.0)
    return picture
