"""The brain in QSM and the medial temporal lobe in T1: coordinates near MNI's, in mm."""

import numpy as np

from fdseg.data.phantom.canvas import Canvas

# Susceptibility of nigra and red nucleus against controls: iron rises in both patient groups.
IRON = {"HC": 1.0, "iRBD": 1.12, "PD": 1.25}


def brain(c: Canvas, *, group: str, artefact: bool) -> None:
    """Susceptibility in ppm; 1 = red nuclei, 2 = dentate nuclei, unseen behind an artefact."""
    r = c.rng
    c.pose((0, -20, 2), degrees=6, mm=4, size=(0.95, 1.03), warp=((45, 2.5), (14, 0.6)))
    x, y, z, side = c.x, c.y, c.z, c.side
    age = r.uniform(0.85, 1.15)
    iron = age * IRON[group] * r.uniform(0.9, 1.1)
    rough, fine = 0.012 * c.field(5), 0.012 * c.field(3)

    cerebellum = c.ellipsoid((17, -62, -34), (32, 27, 23), pair=True) + 0.8 * c.field(10)
    cerebrum = np.minimum(
        c.ellipsoid((0, -18, 22), (65, 74, 56)),
        c.ellipsoid((38, -8, -18), (24, 44, 22), (0, 0, 8), pair=True),
    )
    stem = c.tube([(0, -16, -4), (0, -20, -14), (0, -25, -30), (0, -34, -64)], [15, 13, 15, 8])
    stem = np.minimum(stem, c.tube([(8, -30, -30), (18, -48, -34)], [8, 8], pair=True))
    cerebrum += 1.5 * c.field(16)
    head = np.minimum(np.minimum(cerebrum, cerebellum), stem)

    # White matter with its tracts, then the folded cortex: grey on both banks of every sulcus.
    c.paint(head, -0.025 + 0.014 * c.field(14) + rough)
    sulcus = np.abs(np.sin(2 * c.field(14))) * 4.2
    gyri = np.maximum(sulcus, -cerebrum - 19 - 5 * c.field(20))
    gyri = np.maximum(np.minimum(gyri, -cerebrum), np.minimum(stem, cerebellum) * -1 + 2)
    c.paint(gyri - 2.2, 0.026 + fine)
    c.paint(gyri - 0.6, 0.004)
    folia = np.abs(np.sin(cerebellum * (np.pi / 4.5) + 1.2 * c.field(9)))
    folia = np.maximum((0.6 - folia) * 3, -cerebellum - 12)
    c.paint(np.maximum(cerebellum, -stem), -0.012 + rough)
    c.paint(np.maximum(folia, cerebellum), 0.03 + fine)
    c.paint(np.maximum(side - 1.2, 4 - z + 0.5 * (y + 20)), 0.006)

    # Fluid: ventricles with their (diamagnetic) plexus, and the cisterns about the midbrain.
    horn = [(7, 26, 10), (9, 8, 20), (13, -18, 22), (24, -42, 12), (27, -58, 10)]
    c.paint(c.tube(horn, r.uniform(0.7, 1.3) * np.array([4, 4.5, 3.5, 6, 2]), pair=True), 0.008)
    c.paint(c.tube([(15, -22, 19), (25, -42, 11)], [1.5, 2.5], pair=True), -0.09 + 3 * fine)
    c.paint(c.ellipsoid((0, -14, 2), (2, 14, 10)), 0.008)
    c.paint(c.ellipsoid((0, -47, -34), (7, 5, 10)), 0.008)
    c.paint(c.ellipsoid((0, -2, -15), (5, 7, 6)), 0.006)
    c.paint(c.tube([(3, -38, -6), (15, -30, -8), (20, -20, -10)], [3, 2, 2], pair=True), 0.006)
    c.paint(c.ellipsoid((0, -39, 1), (3, 4, 3)), -0.1)

    # Deep grey matter: bright neighbours of the red nucleus come before it.
    def nucleus(value: float, centre: tuple, radii: tuple, turn: tuple = (0, 0, 0)) -> None:
        varied = np.multiply(radii, r.uniform(0.92, 1.08, 3))
        c.paint(c.ellipsoid(centre, varied, turn, pair=True), value * r.uniform(0.9, 1.1) + fine)

    nucleus(0.004, (12, -19, 8), (9, 14, 8), (0, 0, -25))
    nucleus(0.045 * age, (15, -27, 7), (6, 5, 5))
    caudate = [(11, 17, 2), (13, 10, 12), (16, -6, 20), (22, -26, 18)]
    c.paint(c.tube(caudate, [5.5, 5, 3.5, 2], pair=True), 0.055 * age + fine)
    nucleus(0.065 * age, (25, 3, 1), (5, 15, 9), (0, 0, 12))
    c.paint(c.ellipsoid((26, -5, 2), (4, 8, 7), (0, 0, 12), pair=True), 0.1 * age + fine)
    nucleus(0.15 * age, (18.5, -3, -1), (4.5, 9, 6), (0, 0, 25))
    nucleus(0.09 * iron, (11, -13, -6.5), (2.2, 5, 3.2), (0, 25, 20))
    nucleus(0.14 * iron, (10.5, -17, -13), (2.4, 8, 4.5), (0, 30, 25))
    radii = 4.55 * r.uniform(0.95, 1.06) * r.uniform(0.95, 1.05, 3)
    red = c.ellipsoid((5.4, -20, -8.5), radii * (0.95, 1.05, 1.1), pair=True)
    red += 0.2 * c.field(6)
    c.paint(red, 0.115 * iron + 1.5 * fine)

    # The dentate ribbon: a crumpled shell about a hilus that opens to the middle and the front.
    radii = r.uniform(0.9, 1.12) * np.array([8, 10.5, 7]) * r.uniform(0.93, 1.07, 3)
    across, along, above = c.at((16, -60, -35), (10, 0, -20), pair=True)
    shell = c.ellipsoid((16, -60, -35), radii, (10, 0, -20), pair=True)
    shell += 0.8 * np.sin(along * 1.25 + 0.8 * c.field(8)) * np.cos(above * 0.5) + 0.5 * c.field(5)
    hilus = -0.62 * across + 0.68 * along + 0.3 * above - 3.5
    dentate = np.maximum(np.abs(shell) - 1.2, hilus)
    c.paint(dentate, 0.1 * age * r.uniform(0.85, 1.15) + 1.5 * fine)

    # Veins, as bright as the nuclei or brighter.
    vein = r.uniform(0.18, 0.28)
    galen = [(2, 4, 10), (2, -18, 11), (2, -40, 8), (0, -46, 12), (0, -62, 16), (0, -84, 8)]
    c.paint(c.tube(galen, [0.6, 1, 1.5, 2.2, 2, 3], pair=True), vein)
    basal = [(14, 0, -12), (13, -12, -17), (17, -24, -10), (13, -36, -3), (2, -44, 7)]
    c.paint(c.tube(basal, [0.6, 0.7, 0.9, 1, 1.3], pair=True), 0.8 * vein)
    c.paint(np.maximum(c.vessels(24, 0.6), head + 4), 0.7 * vein)
    c.paint(np.maximum(np.maximum(c.vessels(11, 0.7), gyri - 1.5), head + 2), 0.8 * vein)
    c.paint(np.maximum(np.maximum(side - 1.8, np.abs(cerebrum + 1.5) - 1.5), 5 - z), 0.8 * vein)

    # Field that background removal left over, strongest at the rim and above the sinuses.
    rim = np.exp(np.minimum(head, 0) / 4)
    air = np.exp(-(((x) / 22) ** 2 + ((y - 48) / 16) ** 2 + ((z + 2) / 14) ** 2))
    c.image += 0.012 * c.field(50) + rim * 0.045 * c.field(9) + air * (0.08 + 0.08 * c.field(12))
    streaks = np.sin(0.75 * x + 0.25 * y + 1.5 * c.field(18)) + 1.2 * c.field(6)
    if artefact:
        zone = c.inside(z + 21 + 0.25 * (y + 60), 14)
        c.image = (1 - 0.85 * zone) * c.image + zone * (0.06 * streaks - 0.01)
    c.image *= c.inside(head)
    c.noise = r.uniform(0.008, 0.018) * c.inside(head)
    c.mark(red, 1)
    if not artefact:
        c.mark(dentate, 2)


def temporal_lobe(c: Canvas, *, size: float, cut_mm: float, sigma: float) -> None:
    """White matter is about 1; 1 = anterior hippocampus, 2 = posterior, parted at y = `cut_mm`.

    A left side, the middle of the head at high x: the real crops hold both sides this way round.
    """
    r = c.rng
    c.pose((0, 0, 0), degrees=8, mm=1.5, size=(size, size), warp=((22, 1.0), (9, 0.35)))
    x, y, z = c.x, c.y, c.z
    rough, fine = 0.05 * c.field(6), 0.05 * c.field(2.5)
    grey, fluid = r.uniform(0.58, 0.66), r.uniform(0.15, 0.25)

    bend = r.normal(0, 0.6, (7, 3))
    tail, body = [(3, -18, 9), (-4, -15.5, 7)], [(-7, -8, 2.5), (-7.5, 0, -2)]
    front = [(-5, 8, -6), (-1, 13, -8.5), (6, 13.5, -6.5)]
    radii = r.uniform(0.93, 1.07) * np.array([2, 3.5, 4.3, 4.6, 5.6, 5.4, 3.2])
    hippocampus = c.tube(np.add([*tail, *body, *front], bend), radii) + 0.5 * c.field(6)

    # White matter; above it thalamus and putamen, below and beside it the folded cortex.
    c.image[...] = 1 + rough + fine + 0.05 * c.field(12)
    c.paint(c.ellipsoid((12, -11, 15), (13, 12, 10)), 0.84 + 1.5 * rough + fine, 3)
    c.paint(c.ellipsoid((-6, 18, 13), (8, 13, 8), (30, 0, 0)), 0.74 + rough + fine, 2)
    c.paint(c.tube([(-14, 22, 18), (-12, 0, 18), (-11, -22, 13)], [3, 2.5, 2]), 0.7 + rough)
    basal = z + 8 + 0.3 * y - 0.1 * x + 1.2 * c.field(10)
    outer = x + 10 + 1.5 * c.field(10)
    sulcus = np.abs(np.sin(1.8 * c.field(11))) * 3.6
    cortex = np.maximum(sulcus - 2.1, np.minimum(basal, outer))
    c.paint(cortex, grey + rough + fine)
    c.paint(np.maximum(sulcus - 0.5, np.minimum(basal, outer)), 1.6 * fluid + 2 * rough)

    # Parahippocampal cortex and amygdala: the hippocampus' own grey, and touching it.
    gyrus = [(4, -16, 1), (3, -6, -4.5), (5, 4, -10), (6, 14, -14), (3, 24, -17)]
    c.paint(c.tube(gyrus, [2.5, 3, 3.3, 4, 4]) + 0.9 * c.field(6), grey + rough + fine)
    c.paint(c.ellipsoid((0, 18, -0.5), (8, 7.5, 6.5), (20, 0, 0)), grey + 0.02 + rough + fine, 2)

    # Cisterns about the brainstem, and the ventricle that caps the hippocampus in patches.
    stem = c.ellipsoid((20, -8, -4), (10.5, 13, 22), (15, 0, 0)) + 0.8 * c.field(10)
    c.paint(np.maximum(stem - 2.5 + 1.3 * c.field(6), z - 9), fluid + 2 * rough)
    c.paint(c.ellipsoid((17, 16, -8), (9, 11, 12)) + 1.5 * c.field(8), fluid + 2 * rough)
    c.paint(stem, 0.93 + rough + fine)
    under = 0.55 * x - 0.8 * (z + 0.55 * y) - 1.5  # negative on the upper outer side
    cap = hippocampus - r.uniform(0.4, 1.4) + 1.1 * c.field(5)
    c.paint(np.maximum(cap, under), fluid + 2 * rough)
    c.paint(c.ellipsoid((-3, -21, 11), (6, 7, 6.5)) + c.field(7), fluid + rough)

    # Hippocampus, with the dark line of its inner layers and the white of alveus and fimbria.
    shade = grey + r.normal(0, 0.02) + rough + 1.3 * fine
    c.paint(np.maximum(hippocampus - 1.2, -under - 1), 0.95 + rough)
    c.paint(hippocampus, shade)
    c.paint(np.abs(hippocampus + 2.2 + 0.8 * c.field(5)) - 0.35, 0.8 * grey)
    c.paint(c.vessels(16, 0.6), r.uniform(0.9, 1.4))
    c.image *= 1 + 0.08 * c.field(40)
    c.noise = sigma
    c.mark(hippocampus, 2)
    c.mark(np.maximum(hippocampus, cut_mm - y), 1)
