"""Paint anatomy in millimetres on any voxel grid."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

Array = np.ndarray
Triple = Sequence[float] | Array

SLAB_VOXELS = 400_000  # painted at once: bounds the memory, whatever the volume's size
SPLINE_VARIANCE = 151 / 315  # per axis, of a cubic B-spline with unit normal coefficients


@dataclass(frozen=True)
class Grid:
    """The voxels of a volume: shape [X, Y, Z], spacing in mm, and the axes stored backwards."""

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    signs: tuple[int, ...] = (1, 1, 1)

    @property
    def fov_mm(self) -> Array:
        """Field of view per axis in mm, shape [3]."""
        return np.round(np.multiply(self.shape, self.spacing_mm), 6)

    def scaled(self, scale: float) -> "Grid":
        """The same field of view with `scale` times the voxels along every axis."""
        shape = tuple(max(1, round(n * scale)) for n in self.shape)
        spacing = np.multiply(self.shape, self.spacing_mm) / shape
        return Grid(shape, tuple(spacing.tolist()), self.signs)

    def axis(self, k: int) -> Array:
        """Positions in mm of the voxel centres along axis `k`; 0 is the centre of the field."""
        n = self.shape[k]
        return self.signs[k] * (np.arange(n) + 0.5 - n / 2) * self.spacing_mm[k]

    def affine(self, rotation: Array, centre_mm: Triple) -> Array:
        """Voxel to world, shape [4, 4]: the field's centre lies at `centre_mm`."""
        affine = np.eye(4)
        affine[:3, :3] = rotation * np.multiply(self.signs, self.spacing_mm)
        affine[:3, 3] = centre_mm - affine[:3, :3] @ (np.subtract(self.shape, 1) / 2)
        return affine


class Canvas:
    """Some rows of a volume, painted shape by shape.

    A shape is its signed distance in mm at every voxel, negative inside. Random numbers depend on
    the field of view and never on the voxels: equal generators paint equal anatomy at any
    resolution, and a volume may be painted rows by rows.
    """

    def __init__(self, grid: Grid, rows: slice, rng: np.random.Generator) -> None:
        """An empty canvas for the rows `rows` of `grid`; `rng` must be fresh for every canvas."""
        self.rng = rng
        self.fov_mm = grid.fov_mm
        self.axes = [grid.axis(k)[rows if k == 0 else slice(None)] for k in range(3)]
        self.edge_mm = float(np.prod(grid.spacing_mm) ** (1 / 3))  # one voxel of partial volume
        shape = [len(a) for a in self.axes]
        self.image = np.zeros(shape, np.float32)
        self.noise: Array | float = 0.0  # standard deviation, of the image's unit
        self.label = np.zeros(shape, np.uint8)

    def pose(
        self,
        centre_mm: Triple,
        degrees: float,
        mm: float,
        size: tuple[float, float],
        warp: Sequence[tuple[float, float]],
    ) -> None:
        """Place the anatomy: sets the anatomical coordinates x (right), y (front), z (up) in mm.

        `centre_mm` is what lies at the field's centre, give or take a turn, a shift, a size and
        `warp`, random displacements given as (length, amplitude) pairs in mm.
        """
        turn = Rotation.from_euler("xyz", self.rng.normal(0, degrees / 2, 3), degrees=True)
        matrix = turn.as_matrix() / self.rng.uniform(*size)
        shift = np.asarray(centre_mm) + np.clip(self.rng.normal(0, mm / 2, 3), -mm, mm)
        gx, gy, gz = np.ix_(*(a.astype(np.float32) for a in self.axes))
        placed = []
        for row, offset in zip(matrix.astype(np.float32), shift, strict=True):
            p = row[0] * gx + row[1] * gy + row[2] * gz + np.float32(offset)
            for length, amplitude in warp:
                p += np.float32(amplitude) * self.field(length)
            placed.append(p)
        self.x, self.y, self.z = placed
        self.side = np.abs(self.x)  # what is drawn with it appears on both sides

    def field(self, length_mm: float) -> Array:
        """A smooth random field of unit variance whose blobs are about `length_mm` wide."""
        size = np.ceil(self.fov_mm / length_mm).astype(int) + 3
        values = self.rng.standard_normal(size, np.float32) / np.float32(SPLINE_VARIANCE**1.5)
        for k in (0, 1, 2):
            place = (self.axes[k] + self.fov_mm[k] / 2) / length_mm
            first = np.floor(place).astype(int)
            t = place - first
            weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * (t + t**2 - t**3), t**3)
            tall = [-1 if j == k else 1 for j in range(3)]
            values = sum(
                np.take(values, first + j, axis=k) * (w / 6).astype(np.float32).reshape(tall)
                for j, w in enumerate(weights)
            )
        return values

    def at(self, centre: Triple, turn: Triple = (0, 0, 0), pair: bool = False) -> list[Array]:
        """Coordinates about `centre`, turned by degrees about x, y, z; on both sides if `pair`."""
        offsets = np.asarray(centre, np.float32)
        x, y, z = (
            (self.side if pair else self.x) - offsets[0],
            self.y - offsets[1],
            self.z - offsets[2],
        )
        if not any(turn):
            return [x, y, z]
        matrix = Rotation.from_euler("xyz", turn, degrees=True).as_matrix().astype(np.float32)
        return [r[0] * x + r[1] * y + r[2] * z for r in matrix.T]

    def ellipsoid(
        self, centre: Triple, radii: Triple, turn: Triple = (0, 0, 0), pair: bool = False
    ) -> Array:
        """Distance to an ellipsoid, exact to first order at its surface."""
        scaled = [
            p / np.float32(r) for p, r in zip(self.at(centre, turn, pair), radii, strict=True)
        ]
        reach = np.sqrt(sum(q * q for q in scaled))
        slope = np.sqrt(sum((q / np.float32(r)) ** 2 for q, r in zip(scaled, radii, strict=True)))
        return reach * (reach - 1) / np.maximum(slope, np.float32(1e-6))

    def tube(self, points: Sequence[Triple] | Array, radii: Triple, pair: bool = False) -> Array:
        """Distance to a tube through `points` whose radius changes from point to point."""
        distance: Any = np.float32(1e6)
        line = np.asarray(points, np.float32)
        for a, b, ra, rb in zip(line[:-1], line[1:], radii[:-1], radii[1:], strict=True):
            x, y, z = self.at(a, pair=pair)
            dx, dy, dz = b - a
            h = np.clip((x * dx + y * dy + z * dz) / (dx * dx + dy * dy + dz * dz), 0, 1)
            gap = np.sqrt((x - h * dx) ** 2 + (y - h * dy) ** 2 + (z - h * dz) ** 2)
            distance = np.minimum(distance, gap - (np.float32(ra) + h * np.float32(rb - ra)))
        return distance

    def vessels(self, length_mm: float, radius_mm: float) -> Array:
        """Distance to a tangle of thin tubes: where two random fields are zero at once."""
        apart = np.hypot(self.field(length_mm), self.field(length_mm))
        return apart * np.float32(0.6 * length_mm) - np.float32(radius_mm)

    def inside(self, distance: Array, edge_mm: float = 0.0) -> Array:
        """Membership from 0 to 1, across an edge of one voxel or of `edge_mm` if that is wider."""
        t = np.clip(0.5 - distance / np.float32(max(edge_mm, self.edge_mm)), 0, 1)
        return t * t * (3 - 2 * t)

    def paint(self, distance: Array, value: Array | float, edge_mm: float = 0.0) -> None:
        """Cover the image by `value` inside a shape."""
        self.image += self.inside(distance, edge_mm) * (np.float32(value) - self.image)

    def mark(self, distance: Array, structure: int) -> None:
        """Write a structure's number where more than half the voxel is inside."""
        self.label[distance < 0] = structure


def render(
    anatomy: Callable[..., None], grid: Grid, key: Sequence[int], **traits: Any
) -> tuple[Array, Array]:
    """Image (float32, with noise) and label (uint8), both of the grid's shape [X, Y, Z].

    `anatomy(canvas, **traits)` paints; `key` seeds the subject.
    """

    def slabs() -> Iterator[tuple[Array, Array, Array | float]]:
        step = max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
        for start in range(0, grid.shape[0], step):
            canvas = Canvas(grid, slice(start, start + step), np.random.default_rng(key))
            anatomy(canvas, **traits)
            yield canvas.image, canvas.label, canvas.noise

    noise = np.random.default_rng([*key, 1])
    images, labels = [], []
    for image, label, sigma in slabs():
        images.append(image + sigma * noise.standard_normal(image.shape, np.float32))
        labels.append(label)
    return np.concatenate(images), np.concatenate(labels)
