"""One structure of a simple shape, with traits to choose, to see what a method makes of each."""

from dataclasses import dataclass, fields

import numpy as np

from fdseg.data.phantom.canvas import Array, Canvas, Grid, Triple
from fdseg.errors import FdsegError

SMALLER = 0.6  # radius of the smaller look-alikes, as a fraction of the structure's
FAINTER = 0.5  # contrast of the fainter ones
LIMITS = {"radius_mm": (1, 6)}  # what the volume has room for; other traits: 0 to 100
TRIES = 200  # places to try for a look-alike


@dataclass(frozen=True)
class Traits:
    """How a cohort looks; its background has mean 0, and a texture of standard deviation 0.1.

    Attributes:
        radius_mm: of a sphere of the structure's volume, on average over subjects.
        edge_mm: in which its intensity rises from outside to inside; one voxel at least.
        contrast: its intensity above the background's.
        noise: standard deviation over a volume, whatever the slope.
        slope: k, where the noise has the power 1/fᵏ at the frequency f; 0 is white noise.
        smaller: number of look-alikes of its intensity, with 0.6 its radius.
        fainter: number of look-alikes of its size, with half its contrast.
    """

    radius_mm: float
    edge_mm: float
    contrast: float
    noise: float
    slope: float
    smaller: int
    fainter: int

    def __post_init__(self) -> None:
        for trait in fields(self):
            value, (least, most) = getattr(self, trait.name), LIMITS.get(trait.name, (0, 100))
            if type(value) not in (int, trait.type) or not least <= value <= most:
                kind = "whole number" if trait.type is int else "number"
                raise FdsegError(
                    f"data.phantom.{trait.name}={value}: expected a {kind} from {least} to {most}."
                )


def blob(c: Canvas, *, traits: Traits) -> None:
    """Without the noise; 1 = the structure. The texture does not depend on any trait."""
    c.pose((0, 0, 0), degrees=0, mm=0, size=(1, 1), warp=())
    c.image[...] = 0.07 * c.field(12) + 0.07 * c.field(5)
    radius = traits.radius_mm
    places = [_place(c, 1.3 * radius, [])]
    shapes, shades = [_lump(c, places[0], radius * c.rng.uniform(0.9, 1.1))], [1.0]
    for count, size, shade in ((traits.smaller, SMALLER, 1.0), (traits.fainter, 1.0, FAINTER)):
        for _ in range(count):
            places.append(_place(c, 1.3 * size * radius, places, 1.2 * (1 + size) * radius + 1))
            lump = _lump(c, places[-1], size * radius * c.rng.uniform(0.9, 1.1))
            near = traits.edge_mm + 1 - np.minimum.reduce(shapes)
            shapes.append(np.maximum(lump, near))  # cut off where there was no free place
            shades.append(shade)
    inside = [
        c.inside(shape, traits.edge_mm) * shade for shape, shade in zip(shapes, shades, strict=True)
    ]
    c.image += np.float32(traits.contrast) * np.maximum.reduce(inside)
    c.mark(shapes[0], 1)


def noise(rng: np.random.Generator, grid: Grid, slope: float) -> Array:
    """Gaussian noise of mean 0 and standard deviation 1 over a volume, ``[X, Y, Z]``, float32.

    Its power falls with the frequency, in cycles per mm and alike in all directions, as 1/f^slope.
    """
    white = rng.standard_normal(grid.shape)
    *axes, half = zip(grid.shape, grid.spacing_mm, strict=True)
    frequencies = np.ix_(*(np.fft.fftfreq(*axis) for axis in axes), np.fft.rfftfreq(*half))
    f = np.sqrt(sum(k**2 for k in frequencies))
    f[0, 0, 0] = 1  # the mean goes anyway
    values = np.fft.irfftn(np.fft.rfftn(white) * f ** (-slope / 2), grid.shape, axes=(0, 1, 2))
    return ((values - values.mean()) / values.std()).astype(np.float32)


def _lump(c: Canvas, centre: Triple, radius_mm: float) -> Array:
    """Distance to a rounded body of about the volume of a sphere."""
    stretch = c.rng.uniform(0.87, 1.15, 3)
    turn = c.rng.uniform(-90, 90, 3)
    radii = radius_mm * stretch / np.prod(stretch) ** (1 / 3)
    return c.ellipsoid(centre, radii, turn) + np.float32(0.08 * radius_mm) * c.field(radius_mm)


def _place(c: Canvas, margin_mm: float, others: list[Array], gap_mm: float = 0) -> Array:
    """A place off the border and off the others; the one farthest from them if none is free."""
    room = np.maximum(c.fov_mm / 2 - margin_mm, 0)
    tries = c.rng.uniform(-1, 1, (TRIES, 3)) * room
    if not others:
        return tries[0]
    nearest = np.linalg.norm(tries[:, None] - np.array(others), axis=-1).min(axis=1)
    free = nearest >= gap_mm
    return tries[free.argmax() if free.any() else nearest.argmax()]
