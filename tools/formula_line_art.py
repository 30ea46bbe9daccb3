"""Formula images drawn as lines and figures on a backdrop: strokes, shapes and fractals.

Functions take `fixed`, the generator of the class, and `rng`, the generator of the image, and return floats
near 0..1 shaped [96, 96, 3]. What a class fixes is read from `fixed` first, then varied with `rng`.
"""

from __future__ import annotations

import numpy as np
from formula_textures import SIZE, Array, Random, noise, paint
from PIL import Image, ImageDraw

FINE = 2 * SIZE  # line art is drawn at twice the size and averaged down, which smooths its edges


def backdrop(rng: Random) -> Array:
    """What lies behind line art: black or white, a flat colour, or a soft texture. [96, 96, 3]"""
    kind = rng.random()
    if kind < 0.45:
        return np.full((SIZE, SIZE, 3), rng.choice([0.0, 0.0, 1.0]))
    if kind < 0.6:
        return np.ones((SIZE, SIZE, 3)) * rng.random(3)
    colours = np.clip(rng.random(3) + rng.normal(0.0, 0.2, (2, 3)), 0.0, 1.0)
    return paint(noise(rng, rng.uniform(1.0, 2.5)), colours)


def ink(rng: Random, behind: Array) -> Array:
    """A colour that stands out from the backdrop. [3]"""
    mean = behind.mean(axis=(0, 1))
    plain = np.ptp(mean) < 0.02 and rng.random() < 0.75  # grey on grey, as scanned writing is
    for _ in range(20):
        colour = np.full(3, rng.random()) if plain else rng.random(3)
        if abs(colour.mean() - mean.mean()) > 0.35:
            return colour
    return np.full(3, float(mean.mean() < 0.5))


def rotation(angle: float) -> Array:
    """The matrix that turns points by an angle. [2, 2]"""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def place(rng: Random, points: Array, turn: float) -> Array:
    """Move points of -1..1 by a random affine map into fine pixels. [..., 2]"""
    angle, shear = rng.uniform(-turn, turn), rng.uniform(-0.2, 0.2)
    scale = rng.uniform(0.6, 1.0) * np.exp(rng.uniform(-0.15, 0.15, 2))
    matrix = rotation(angle) @ [[1, shear], [0, 1]]
    moved = (points * scale) @ matrix.T + rng.uniform(-0.15, 0.15, 2)
    return (moved + 1.0) * FINE / 2


def shrink(canvas: Image.Image) -> Array:
    """A fine grey canvas as coverage in 0..1. [96, 96]"""
    return np.asarray(canvas.reduce(FINE // SIZE), dtype=np.float64) / 255.0


def strokes(fixed: Random, rng: Random) -> Array:
    """A glyph: cubic curves, half of which start where the last one ended."""
    count = int(fixed.integers(2, 5))
    curves = fixed.uniform(-0.9, 0.9, (count, 4, 2))
    joined = fixed.random(count) < 0.5
    curves = curves + rng.normal(0.0, 0.08, curves.shape)
    for k in range(1, count):
        if joined[k]:
            curves[k, 0] = curves[k - 1, 3]
    low, high = curves.min(axis=(0, 1)), curves.max(axis=(0, 1))
    curves = 2.2 * (curves - (low + high) / 2) / (high - low).max()  # curves stay inside their control points
    t = np.linspace(0.0, 1.0, 20)[:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])  # [20, 4]
    lines = place(rng, weights @ curves, turn=0.25)  # [count, 20, 2]
    canvas, width = Image.new("L", (FINE, FINE)), int(FINE * rng.uniform(0.03, 0.13))
    pen, half = ImageDraw.Draw(canvas), width / 2
    for line in lines:
        pen.line([tuple(p) for p in line], fill=255, width=width, joint="curve")
        for x, y in (line[0], line[-1]):
            pen.ellipse((x - half, y - half, x + half, y + half), fill=255)
    behind = backdrop(rng)
    cover = shrink(canvas)[..., None] * rng.uniform(0.7, 1.0)
    return behind * (1 - cover) + ink(rng, behind) * cover


def outline(kind: int, corners: int) -> Array:
    """A polygon, a star or a circle of radius 1 as points. [n, 2]"""
    n = 32 if kind == 2 else corners * (1 + kind)
    radius = np.where(np.arange(n) % 2, 0.45, 1.0) if kind == 1 else np.ones(n)
    angle = np.arange(n) * 2 * np.pi / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]


def shapes(fixed: Random, rng: Random) -> Array:
    """A composition of two to four filled or hollow figures."""
    count = int(fixed.integers(2, 5))
    picture = behind = backdrop(rng)
    angle = fixed.uniform(0, 2 * np.pi, count)
    kinds, corners = fixed.integers(0, 3, count), fixed.integers(3, 7, count)
    sizes, centres = fixed.uniform(0.2, 0.6, (count, 2)), fixed.uniform(-0.6, 0.6, (count, 2))
    hollow = fixed.random(count) < 0.3
    sizes, centres = sizes * rng.uniform(0.85, 1.15, (count, 2)), centres + rng.normal(0, 0.05, (count, 2))
    parts = []
    for k in range(count):
        parts.append(outline(kinds[k], corners[k]) * sizes[k] @ rotation(angle[k]).T + centres[k])
    placed = np.split(place(rng, np.concatenate(parts), 0.3), np.cumsum([len(p) for p in parts])[:-1])
    for k, points in enumerate(placed):
        canvas = Image.new("L", (FINE, FINE))
        edge = [tuple(p) for p in points]
        ImageDraw.Draw(canvas).polygon(edge, fill=0 if hollow[k] else 255, outline=255, width=FINE // 24)
        cover = shrink(canvas)[..., None]
        picture = picture * (1 - cover) + ink(rng, behind) * cover
    return picture


def fractals(fixed: Random, rng: Random) -> Array:
    """An iterated function system: many points wander under random affine maps that all shrink the plane."""
    count = int(fixed.integers(2, 5))
    left, right = (np.linalg.qr(fixed.normal(size=(count, 2, 2)))[0] for _ in range(2))
    shrinks = fixed.uniform(0.25, 0.85, (count, 2))
    shift = fixed.uniform(-1.0, 1.0, (count, 2)) + rng.normal(0.0, 0.03, (count, 2))
    maps = left @ (shrinks[:, :, None] * right) + rng.normal(0.0, 0.02, (count, 2, 2))
    points, trail = rng.uniform(-1, 1, (1500, 2)), []
    for step in range(24):
        chosen = rng.integers(0, count, len(points))
        points = np.einsum("nij,nj->ni", maps[chosen], points) + shift[chosen]
        if step >= 10:
            trail.append(points)
    cloud = np.clip(np.concatenate(trail), -1e3, 1e3)
    low, high = np.percentile(cloud, [1, 99], axis=0)
    cloud = place(rng, 2 * (cloud - low) / (high - low + 1e-6) - 1, turn=0.3) * (SIZE / FINE)
    hits, _, _ = np.histogram2d(cloud[:, 1], cloud[:, 0], bins=SIZE, range=[[0, SIZE], [0, SIZE]])
    cover = (1 - np.exp(-hits / rng.uniform(0.5, 2.0)))[..., None]
    behind = backdrop(rng)
    return behind * (1 - cover) + ink(rng, behind) * cover
