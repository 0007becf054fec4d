"""The upper abdomen in CT and the heart in MRI: x to the right, y forward, z up, in mm."""

import numpy as np

from fdseg.data.phantom.canvas import Array, Canvas


def barrel(c: Canvas, wide_mm: float, deep_mm: float) -> Array:
    """Distance to an upright oval cylinder, the inner wall of the trunk."""
    reach = (c.side / np.float32(wide_mm)) ** 2.4 + (np.abs(c.y) / np.float32(deep_mm)) ** 2.4
    return (reach ** (1 / 2.4) - 1) * np.float32(deep_mm)


def skeleton(c: Canvas, wall: Array, bone: float, marrow: Array | float, muscle: Array) -> None:
    """Ribs in the wall, shoulder of the back muscles, and a spine with discs and canal."""
    x, y, z = c.x, c.y, c.z
    rib = np.mod(z + 0.35 * y + c.rng.uniform(0, 27), 27) - 13.5
    ribs = np.hypot(wall - 7, 0.7 * rib) - 4.2
    c.paint(ribs, bone, 2)
    c.paint(ribs + 2, marrow)
    c.paint(c.ellipsoid((30, -84, 0), (26, 17, 400), pair=True), muscle)
    disc = np.abs(np.mod(z + c.rng.uniform(0, 30), 30) - 15) - 3.5
    column = np.hypot(x / 1.15, y + 62) - 18
    c.paint(column, muscle)
    c.paint(np.maximum(column, -disc), bone, 2)
    c.paint(np.maximum(column, -disc) + 2, marrow)
    arch = np.maximum(np.hypot(c.side - 9, y + 92) - 9, 4 - np.abs(disc + 8))
    c.paint(np.minimum(arch, np.maximum(c.side - 3, np.abs(y + 105) - 14)), bone, 2)
    c.paint(np.hypot(x, y + 89) - 8, muscle)


def abdomen(c: Canvas) -> None:
    """Hounsfield units of a portal venous scan; 1 = spleen."""
    r = c.rng
    c.pose((0, -4, 8), degrees=5, mm=8, size=(0.88, 1.02), warp=((90, 6), (30, 2)))
    x, y, z, side = c.x, c.y, c.z, c.side
    fine, rough = c.field(4), c.field(12)
    fat = -100 + 8 * rough
    soft = 55 + 6 * rough
    spleen_hu = r.uniform(95, 140)
    liver_hu = spleen_hu + r.uniform(-25, 10)

    wall = barrel(c, 128, 88)
    c.image[...] = -1000
    couch = np.abs(y + 150 - 0.0012 * x * x) - 9
    c.paint(np.maximum(couch, side - 190), -850 + 60 * fine)
    c.paint(np.maximum(np.abs(couch) - 1.5, side - 190), -150)
    skin = wall - 15 - r.uniform(9, 26) + 2 * rough
    c.paint(skin, 30)
    c.paint(skin + 2.5, fat)
    c.paint(wall - 15 + rough, soft + 6 * fine)
    c.paint(np.abs(wall - 10 + rough) - 1, fat)
    c.paint(wall, fat)
    skeleton(c, wall, 520, 190 + 60 * fine, soft)

    # Diaphragm: two domes, the right one higher; lungs with their vessels above them.
    height = r.uniform(82, 98) + np.clip(x / 5, -6, 6)
    dome = (z - height + 0.011 * (side - 55) ** 2 + 0.006 * (y - 10) ** 2) * 0.7 + rough
    room = np.maximum(wall + 2, dome + 2.5)  # what the organs of the abdomen may fill

    # Bowel in its fat: loops cut out of one random field, filled by food, contrast or gas.
    loops = 16 * (0.45 - np.abs(c.field(38))) + 0.8 * rough
    loops = np.maximum(np.maximum(-loops, room), z - 5 + 0.5 * y - 20)
    loops = np.maximum(loops, 22 - np.hypot(side, y + 62) * 0.5)
    c.paint(loops, 85 + 10 * fine)
    content = c.field(60)
    c.paint(loops + 2.5, 25 + np.float32(205) * (content > 0.9) + 18 * fine)
    c.paint(np.maximum(loops + 3, 8 - 14 * content - 0.35 * y), -850)
    c.paint(np.maximum(c.vessels(24, 1.6), room), spleen_hu + 20)

    # Liver, stomach, pancreas, kidneys: the spleen's neighbours and equals.
    liver = np.minimum(
        c.ellipsoid((78, 2, 28), (66, 84, 78), (0, 12, 0)),
        c.ellipsoid((8, 44, 48), (74, 36, 36), (0, -14, 0)),
    )
    liver = np.maximum(
        np.maximum(liver + 2 * c.field(25), room), -c.ellipsoid((38, 8, -30), (40, 60, 45))
    )
    c.paint(liver, liver_hu + 5 * fine + 4 * rough)
    c.paint(np.maximum(c.vessels(34, 2.6), liver + 4), liver_hu + r.uniform(15, 45))
    c.paint(c.ellipsoid((48, 40, -2), (13, 24, 14), (30, 0, 0)), 8)
    stomach = c.tube(
        [(-48, -12, 62), (-58, 18, 40), (-45, 48, 5), (-5, 55, -12), (24, 42, -5)],
        r.uniform(0.85, 1.1) * np.array([30, 33, 27, 19, 11]),
    )
    stomach = np.maximum(stomach + 2.5 * rough, room)
    c.paint(stomach, 95 + 8 * fine)
    c.paint(stomach + 4, r.uniform(15, 60) + 22 * rough + 14 * fine)
    c.paint(np.maximum(stomach + 5, r.uniform(20, 45) - y), -900)
    kidney = c.ellipsoid((52, -46, -28), (25, 26, 54), (12, 10, 0), pair=True) + 2 * rough
    kidney = np.maximum(kidney, room)
    c.paint(kidney, spleen_hu + r.uniform(15, 60) + 5 * fine)
    c.paint(np.maximum(kidney + 8, -rough * 5), spleen_hu + r.uniform(-10, 15))
    c.paint(c.ellipsoid((42, -42, -28), (12, 12, 28), pair=True) + 4 * rough, fat)
    splenic = [(8, -18, 4), (-30, -14, 12), (-62, -34, 22), (-86, -38, 30)]
    c.paint(c.tube(splenic, [11, 9, 8, 6]) + 3 * rough, 100 + 14 * rough + 8 * fine)
    c.paint(c.tube(splenic, [6, 4.5, 4, 5]), spleen_hu + r.uniform(10, 40))

    # Spleen: a wedge under the left dome, hollowed by stomach and kidney.
    big = r.uniform(0.88, 1.12) * r.uniform(0.93, 1.07, 3)
    spleen = c.ellipsoid((-92, -36, 32), big * (39, 51, 66), (18, 12, 14)) + 1.5 * c.field(28)
    hollow = c.ellipsoid((-56, -4, 36), (42, 42, 70), (10, 0, 0)) + 2 * c.field(25)
    spleen = np.maximum(np.maximum(spleen, -hollow), np.maximum(room, 3 - kidney))
    c.paint(spleen - 1.5, fat)
    c.paint(spleen, spleen_hu + 4 * fine + 3 * rough)

    aorta = np.hypot(x + 8, y + 32) - r.uniform(9, 12)
    c.paint(aorta, spleen_hu + r.uniform(20, 60))
    c.paint(np.hypot(x - 24, y + 30) - 11, spleen_hu + r.uniform(0, 30))
    c.paint(c.ellipsoid((24, -58, -95), (16, 17, 70), pair=True), soft)
    lung = np.maximum(wall + 3, 2 - dome)
    lung = np.maximum(lung, 3 - np.hypot(x, y + 62) + 24)
    c.paint(lung, -850 + 30 * fine + 20 * rough)
    c.paint(np.maximum(c.vessels(22, 1.3), lung + 2), 20)
    heart = c.ellipsoid((-18, 28, 128), (62, 50, 46))
    c.paint(heart, fat)
    c.paint(heart + 4, soft + 40)
    c.paint(np.maximum(heart + 14, 4 - np.abs(x + 12)), spleen_hu + 30)
    c.paint(aorta, spleen_hu + 40)
    c.image += 6 * c.field(120)
    c.noise = r.uniform(10, 22)
    c.image += c.noise * c.field(3)  # the grain that a reconstruction kernel leaves
    c.mark(np.maximum(spleen, -aorta), 1)


def chest(c: Canvas, *, veins: int) -> None:
    """A bright-blood scan, blood about 1; 1 = left atrium with the first cm of 2 to 4 `veins`."""
    r = c.rng
    c.pose((-6, -2, 0), degrees=10, mm=8, size=(0.9, 1.06), warp=((60, 4), (22, 1.2)))
    x, y, z = c.x, c.y, c.z
    fine, rough = c.field(4), c.field(11)
    fat = r.uniform(0.5, 0.7) + 0.05 * rough
    muscle = 0.28 + 0.03 * rough + 0.02 * fine
    blood = 1 + 0.05 * c.field(25) + 0.03 * fine

    wall = barrel(c, 132, 86)
    skin = wall - 17 - r.uniform(8, 20) + 2 * rough
    c.paint(skin, 0.4)
    c.paint(skin + 2.5, fat)
    c.paint(wall - 17 + rough, muscle)
    c.paint(np.abs(wall - 11 + 2 * rough) - 1.2, fat)
    c.paint(wall, 0.06 + 0.02 * rough)
    c.paint(np.maximum(c.vessels(20, 1.4), wall + 4), 0.45)
    skeleton(c, wall, 0.12, 0.45 + 0.06 * fine, muscle)
    c.paint(np.hypot(x, y + 89) - 7, 0.85)
    c.paint(np.hypot(x, y + 89) - 4, 0.4)
    dome = z + r.uniform(48, 60) + 0.008 * (x - 60) ** 2 + 0.006 * y**2 + rough
    c.paint(np.maximum(dome, wall + 1), 0.42 + 0.03 * fine)
    c.paint(np.maximum(np.maximum(c.vessels(30, 2.2), dome + 4), wall + 6), 0.7)

    # Mediastinum and pericardium, then chambers from the front to the back.
    c.paint(
        np.maximum(((x + 2) / 48) ** 2 + ((y + 2) / 78) ** 2 - 1, wall / 40) * 35 + 2 * rough, fat
    )
    sac = c.ellipsoid((-22, 18, -14), (66, 58, 54), (0, 0, -25)) + 1.5 * rough
    c.paint(np.abs(sac) - 1.3, 0.2)
    c.paint(sac + 1.3, fat + 0.1 * rough)
    swell = r.uniform(0.92, 1.08)
    left_muscle = c.ellipsoid((-45, 20, -22), swell * np.array([45, 31, 31]), (0, 15, -32))
    right = c.ellipsoid((-12, 44, -22), swell * np.array([44, 26, 34]), (0, 10, -28)) + rough
    c.paint(right - 3.5, muscle + 0.1)
    c.paint(right, blood)
    c.paint(left_muscle, 0.4 + 0.04 * fine)
    left = c.ellipsoid((-42, 18, -22), swell * np.array([36, 20, 20]), (0, 15, -32))
    c.paint(left + 1.2 * rough, blood)
    c.paint(c.ellipsoid((-52, 10, -26), (8, 4, 4), (0, 0, -32)), 0.45)
    atrium = c.ellipsoid((36, 12, -8), swell * np.array([22, 26, 30])) + rough
    cava = c.tube([(34, 2, 90), (34, 4, 10), (30, -4, -40), (28, -8, -90)], [9, 10, 12, 12])
    c.paint(np.minimum(atrium, cava) - 2, muscle)
    c.paint(np.minimum(atrium, cava), blood)
    trunk = c.tube([(-22, 46, 8), (-22, 32, 34), (-10, 2, 44), (34, -22, 40)], [13, 13, 11, 9])
    trunk = np.minimum(trunk, c.tube([(-12, 8, 44), (-52, -28, 42)], [10, 8]))
    c.paint(trunk - 1.8, muscle)
    c.paint(trunk, blood)
    arch = [(-10, 18, 0), (6, 22, 30), (8, 14, 66), (-8, -12, 82), (-22, -44, 62), (-24, -50, -90)]
    aorta = c.tube(arch, [13, 14, 13, 12, 11.5, 10])
    c.paint(aorta - 1.8, muscle)
    c.paint(aorta, blood)
    c.paint(c.tube([(0, -32, 90), (0, -34, 52)], [8, 8]), 0.05)
    c.paint(c.tube([(0, -34, 52), (34, -42, 30)], [6, 5]), 0.05)
    c.paint(c.tube([(0, -34, 52), (-38, -44, 32)], [6, 5]), 0.05)
    c.paint(c.ellipsoid((-8, -50, 0), (8, 5, 200)), muscle + 0.08 * rough)

    # Left atrium: a flat sac, its appendage, and veins that go on into the lungs unlabelled.
    big = r.uniform(0.92, 1.1)
    sac = c.ellipsoid((0, -20, 6), big * r.uniform(0.93, 1.07, 3) * (33, 20, 25), (0, 0, 8))
    ear = c.tube([(-24, -8, 14), (-38, 6, 20), (-44, 18, 16)], [9, 7.5, 6]) + 0.8 * c.field(10)
    body = np.minimum(sac + 0.8 * c.field(16), ear)
    ends = [(62, -46, 32), (62, -52, -14), (-62, -46, 34), (-60, -54, -10)]
    starts = [(20, -25, 16), (20, -27, -4), (-20, -25, 18), (-20, -27, -2)]
    if veins < 4:  # the left veins share a trunk
        ends[2:], starts[2:] = [(-62, -50, 12)], [(-20, -27, 8)]
    if veins < 3:  # and so do the right ones
        ends[:2], starts[:2] = [(62, -50, 10)], [(20, -27, 6)]
    lumen = body
    for start, end in zip(starts, ends, strict=True):
        width = r.uniform(5.5, 7.5)
        lumen = np.minimum(lumen, c.tube([start, end], [width + 1, width - 2]))
    valve = c.tube([(-14, -8, -2), (-34, 12, -16)], [13, 11])
    c.paint(np.maximum(lumen - 2.2, -valve), muscle + 0.08)
    c.paint(valve, blood)
    c.paint(lumen, blood)
    c.paint(np.maximum(np.abs(body - 0.8) - 0.9, valve), 0.55)  # the mitral leaflets
    c.paint(np.maximum(aorta, -body), blood)

    # Flow and the surface coils: blood is not one grey, nor is anything else.
    c.image *= 1 + 0.07 * c.field(30)
    c.image *= np.exp(0.22 * c.field(130) + r.uniform(0.1, 0.35) * c.y / 100)
    c.noise = r.uniform(0.035, 0.07)
    c.mark(np.maximum(lumen, sac - r.uniform(8, 11)), 1)
    c.mark(ear, 1)
    c.label[aorta < 0] *= body[aorta < 0] < 0
