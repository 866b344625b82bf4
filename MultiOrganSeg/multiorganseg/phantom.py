"""A synthetic abdominal CT: to try everything without images of a patient and without a connection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.volume import Volume

Point = tuple[float, float, float]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]

SHAPE = (72, 150, 190)
SPACING = (3.0, 2.0, 2.0)
ORGANS = LabelTable.numbered(
    (
        "spleen",
        "kidney_right",
        "kidney_left",
        "gallbladder",
        "esophagus",
        "liver",
        "stomach",
        "aorta",
        "inferior_vena_cava",
        "portal_vein_and_splenic_vein",
        "pancreas",
        "adrenal_gland_right",
        "adrenal_gland_left",
    )
)
"""What `phantom_labels` tells apart."""

_AIR, _LUNG, _FAT, _WATER, _MUSCLE, _BONE = -1000.0, -840.0, -105.0, 8.0, 62.0, 480.0
_LIVER, _SPLEEN, _CORTEX, _MEDULLA, _PANCREAS = 112.0, 126.0, 178.0, 148.0, 98.0
_ARTERY, _VEIN = 165.0, 155.0
_EVERYWHERE = (slice(None), slice(None), slice(None))
_WALL, _CAVITY = (152.0, 101.0), (141.0, 90.0)


def phantom_ct(seed: int = 0) -> Volume:
    """Build a portal-venous CT of an upper abdomen from ellipsoids and tubes.

    Args:
        seed: Of texture and noise; the anatomy is always the same.

    Returns:
        HU as int16 of shape (72, 150, 190) at 3 × 2 × 2 mm, axes along LPS, the middle at (0, 0, 0).
    """
    draft = _draw()
    generator = np.random.default_rng(seed)
    soft = draft.hu > _LUNG / 2
    hu = ndimage.gaussian_filter(draft.hu, [0.8 / step for step in SPACING], truncate=3)
    coarse = generator.standard_normal(tuple(size // 4 for size in SHAPE), dtype=np.float32)
    texture = ndimage.zoom(coarse, [n / m for n, m in zip(SHAPE, coarse.shape, strict=True)], order=1)
    noise = generator.standard_normal(SHAPE, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, 0.6, truncate=2)
    hu += np.where(soft, 7 * texture, 0) + 22 * noise
    voxels = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return Volume(voxels, _affine(), source="MultiOrganSeg phantom")


def phantom_labels() -> tuple[NDArray[np.uint8], LabelTable]:
    """Return the organs that the phantom was drawn with, on its grid: array (k, j, i) and its label table."""
    return _draw().labels, ORGANS


def _affine() -> NDArray[np.float64]:
    affine = np.diag([*SPACING[::-1], 1.0])
    affine[:3, 3] = [-step * (size - 1) / 2 for size, step in zip(SHAPE[::-1], SPACING[::-1], strict=True)]
    return affine


class _Canvas:
    """Paints shapes over one another, at positions (x, y, z) in mm in LPS patient space."""

    def __init__(self) -> None:
        axes = [step * (np.arange(n) - (n - 1) / 2) for n, step in zip(SHAPE, SPACING, strict=True)]
        self.z, self.y, self.x = (
            axis.astype(np.float32).reshape([-1 if n == dim else 1 for n in range(3)])
            for dim, axis in enumerate(axes)
        )
        self.hu = np.full(SHAPE, _AIR, np.float32)
        self.labels = np.zeros(SHAPE, np.uint8)
        self.clip: Mask = np.ones(SHAPE, bool)

    def fill(self, mask: Mask, hu: float, organ: str = "", where: Box = _EVERYWHERE) -> None:
        """Return the voxels of a mask (within `where`) an intensity and an organ; the clip mask holds."""
        mask = mask & self.clip[where]
        self.hu[where][mask] = hu
        self.labels[where][mask] = ORGANS.value(organ) if organ else 0

    def box(self, low: NDArray[np.floating], high: NDArray[np.floating]) -> Box:
        """Slices (k, j, i) that hold the box between two points."""
        i, j, k = (
            slice(*np.searchsorted(axis.ravel(), (first, last)))
            for axis, first, last in zip((self.x, self.y, self.z), low, high, strict=True)
        )
        return k, j, i

    def axes(self, where: Box) -> tuple[NDArray[np.float32], ...]:
        """Coordinates (x, y, z) of a box, ready to broadcast."""
        return self.x[:, :, where[2]], self.y[:, where[1]], self.z[where[0]]

    def ellipsoid(
        self, center: Point, radii: Point, hu: float, organ: str = "", lean: Point = (0, 0, 0)
    ) -> None:
        """Paint an ellipsoid whose middle moves by `lean` mm in x and y for each mm in z."""
        middle, reach = np.array(center), np.array(radii) + np.abs(lean) * radii[2]
        where = self.box(middle - reach, middle + reach)
        x, y, z = self.axes(where)
        up = z - center[2]
        level = ((x - center[0] - lean[0] * up) / radii[0]) ** 2
        level = level + ((y - center[1] - lean[1] * up) / radii[1]) ** 2 + (up / radii[2]) ** 2
        self.fill(level <= 1, hu, organ, where)

    def tube(self, points: Sequence[Point], radii: Sequence[float], hu: float, organ: str = "") -> None:
        """Paint a tube along points; the radius changes linearly from point to point."""
        for start, end, first, last in zip(points, points[1:], radii, radii[1:], strict=False):
            reach = max(first, last)
            a, b = np.array(start, np.float32), np.array(end, np.float32)
            where = self.box(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
            x, y, z = (axis - origin for axis, origin in zip(self.axes(where), a, strict=True))
            dx, dy, dz = b - a
            along = np.clip((x * dx + y * dy + z * dz) / (dx**2 + dy**2 + dz**2), 0, 1)
            square = (x - along * dx) ** 2 + (y - along * dy) ** 2 + (z - along * dz) ** 2
            self.fill(square <= (first + along * (last - first)) ** 2, hu, organ, where)

    def column(self, radii: tuple[float, float], exponent: float = 2.3) -> Mask:
        """Whether voxels lie in an upright column around the middle."""
        level = np.abs(self.x / radii[0]) ** exponent + np.abs(self.y / radii[1]) ** exponent
        return np.broadcast_to(level <= 1, SHAPE)


def _draw() -> _Canvas:
    canvas = _Canvas()
    cavity = _draw_body(canvas)
    canvas.clip = cavity
    below = _draw_lungs(canvas, cavity)
    canvas.clip = below
    _draw_bowel(canvas)
    _draw_liver_and_spleen(canvas)
    _draw_stomach_and_pancreas(canvas)
    canvas.clip = cavity
    _draw_kidneys(canvas)
    _draw_vessels(canvas)
    return canvas


def _draw_body(canvas: _Canvas) -> Mask:
    canvas.fill(canvas.column((172, 118)), 20)
    canvas.fill(canvas.column((169, 115)), _FAT)
    canvas.fill(canvas.column(_WALL), _MUSCLE)
    cavity = canvas.column(_CAVITY)
    canvas.fill(cavity, _FAT)
    for side in (-1, 1):
        canvas.tube([(34 * side, 92, -130), (32 * side, 90, 130)], [24, 22], _MUSCLE)
        canvas.tube([(42 * side, 56, -130), (34 * side, 56, -20), (22 * side, 50, 40)], [25, 17, 5], _MUSCLE)
        canvas.tube([(14 * side, 30, -10), (10 * side, 28, 60), (14 * side, 26, 90)], [4, 6, 5], _MUSCLE)
    _draw_bones(canvas)
    return cavity & (canvas.hu == _FAT)


def _draw_bones(canvas: _Canvas) -> None:
    for z in range(-132, 140, 33):
        canvas.tube([(0, 56, z - 11), (0, 56, z + 11)], [22, 22], _BONE)
        canvas.tube([(0, 56, z - 9), (0, 56, z + 9)], [19.5, 19.5], 210)
        canvas.ellipsoid((0, 56, z + 16.5), (21, 21, 5), 85)
        canvas.tube([(0, 92, z), (0, 108, z - 12)], [6, 4], _BONE)
        for side in (-1, 1):
            canvas.tube([(14 * side, 78, z), (40 * side, 84, z)], [6, 4], _BONE)
            canvas.tube([(10 * side, 74, z), (14 * side, 90, z)], [5, 5], _BONE)
    canvas.tube([(0, 84, -130), (0, 84, 130)], [9, 9], 35)
    middle = [(a + b) / 2 for a, b in zip(_WALL, _CAVITY, strict=True)]
    for top in range(-10, 230, 30):
        angles = np.radians(np.linspace(70, -50 if top > 60 else -5, 10))
        for side in (-1, 1):
            path = [
                (side * middle[0] * np.cos(a), middle[1] * np.sin(a), top - 75 * (70 - np.degrees(a)) / 120)
                for a in angles
            ]
            canvas.tube(path, [5.5] * 10, _BONE)
            canvas.tube(path, [3.5] * 10, 200)


def _draw_lungs(canvas: _Canvas, cavity: Mask) -> Mask:
    """Paint both bases and the heart between them; give the cavity below the diaphragm."""
    below = cavity.copy()
    for x, y, apex in ((-72, -8, 98), (76, 0, 90)):
        dome = apex - 75 * (((canvas.x - x) / 78) ** 2 + ((canvas.y - y) / 92) ** 2)
        side = np.abs(canvas.x - x) < 58 - 10 * np.abs(canvas.y / 90)
        above = cavity & (canvas.z > dome) & side
        canvas.fill(above & (canvas.z > dome + 3), _LUNG)
        canvas.fill(above & (canvas.z <= dome + 3), _MUSCLE)
        below &= ~above
    canvas.ellipsoid((22, -30, 128), (55, 45, 40), 135)
    return below & ((canvas.z < 80) | (np.abs(canvas.x) > 32)) & (canvas.z < 100)


def _draw_bowel(canvas: _Canvas) -> None:
    colon: list[Point] = [(-112, 20, -130), (-112, 15, -50), (-95, -55, -48), (0, -72, -85), (88, -58, -35)]
    colon += [(112, 20, 0), (112, 30, -60), (105, 35, -130)]
    canvas.tube(colon, [23, 22, 19, 18, 18, 17, 15, 15], 50)
    canvas.tube(colon, [20, 19, 16, 15, 15, 14, 12, 12], 15)
    canvas.tube([(x, y - 8, z) for x, y, z in colon[1:6]], [9, 9, 9, 9, 7], -850)
    for row, z in enumerate(range(-112, -50, 25)):
        turns = np.linspace(0, 3 * np.pi, 14)
        loop = [
            (-70 + 10 * n, -30 + 26 * np.sin(t + row), z + 8 * np.cos(2 * t)) for n, t in enumerate(turns)
        ]
        canvas.tube(loop, [11] * 14, 85)
        canvas.tube(loop, [8] * 14, 30)
    duodenum: list[Point] = [(-32, -35, 2), (-48, 0, -10), (-46, 10, -50), (0, 8, -62), (30, 0, -45)]
    canvas.tube(duodenum, [12, 13, 13, 11, 11], 80)
    canvas.tube(duodenum, [8, 9, 9, 7, 7], 25)


def _draw_liver_and_spleen(canvas: _Canvas) -> None:
    canvas.ellipsoid((-80, -8, 42), (68, 88, 82), _LIVER, "liver", lean=(0.15, 0, 0))
    canvas.ellipsoid((-10, -50, 60), (72, 36, 34), _LIVER, "liver", lean=(0.3, 0, 0))
    canvas.ellipsoid((-26, 6, 52), (22, 18, 26), _LIVER, "liver")
    canvas.ellipsoid((-42, -30, 12), (24, 34, 22), _FAT)
    canvas.ellipsoid((-48, -50, 4), (15, 20, 28), 70)
    canvas.ellipsoid((-48, -50, 4), (13, 18, 26), _WATER, "gallbladder")
    veins: list[list[Point]] = [
        [(-22, 22, 84), (-60, 5, 78), (-105, -10, 60)],
        [(-22, 22, 84), (-45, -25, 70), (-60, -60, 45)],
        [(-22, 22, 84), (0, -25, 75), (30, -50, 66)],
    ]
    for path in veins:
        canvas.tube(path, [6, 4.5, 2.5], _VEIN, "liver")
    canvas.ellipsoid((106, 38, 50), (32, 48, 48), _SPLEEN, "spleen", lean=(-0.1, 0.2, 0))
    canvas.ellipsoid((72, 20, 40), (22, 40, 44), _FAT, lean=(-0.1, -0.2, 0))


def _draw_stomach_and_pancreas(canvas: _Canvas) -> None:
    path: list[Point] = [
        (60, 14, 66),
        (70, -18, 52),
        (66, -46, 26),
        (36, -60, 0),
        (0, -52, -6),
        (-26, -40, 2),
    ]
    radii = [30.0, 30, 27, 22, 17, 11]
    canvas.tube(path, radii, 88, "stomach")
    canvas.tube(path, [r - 4.5 for r in radii], 22, "stomach")
    canvas.tube([(72, -32, 54), (68, -58, 28)], [12, 9], -900, "stomach")
    canvas.tube([(20, 16, 80), (36, 16, 72), (50, 14, 68)], [8, 9, 10], 70, "stomach")
    head: list[Point] = [(-28, 2, -32), (-24, -4, -12), (-6, -12, 0), (20, -14, 8), (48, 4, 18), (80, 26, 28)]
    canvas.tube(head, [14, 15, 10, 10, 11, 9], _PANCREAS, "pancreas")


def _draw_kidneys(canvas: _Canvas) -> None:
    for side, organ, z in ((-1, "kidney_right", -26.0), (1, "kidney_left", -8.0)):
        x = 66.0 * side
        lean = (-0.22 * side, -0.12, 0.0)
        canvas.ellipsoid((x, 48, z), (40, 36, 68), _FAT, lean=lean)
        canvas.ellipsoid((x, 48, z), (28, 27, 56), _CORTEX, organ, lean=lean)
        for step in range(-36, 37, 12):
            for angle in np.radians((-70, 0, 70)):
                ring = 16 * (1 - (step / 56) ** 2) ** 0.5
                px = x + lean[0] * step + side * ring * np.cos(angle)
                py = 48 + lean[1] * step + ring * np.sin(angle)
                canvas.ellipsoid((px, py, z + step), (6, 6, 5), _MEDULLA, organ)
        canvas.ellipsoid((x - 12 * side, 46, z), (16, 8, 20), _FAT, lean=lean)
        canvas.ellipsoid((x - 16 * side, 46, z), (9, 6, 12), 40, lean=lean)
        canvas.tube(
            [(x - 16 * side, 46, z - 6), (40 * side, 40, z - 60), (36 * side, 38, -130)], [3, 3, 3], 60
        )
        canvas.tube([(x - 14 * side, 44, z + 4), (14 * side, 24, z + 8)], [4.5, 5], _VEIN)
    for side, organ in ((-1, "adrenal_gland_right"), (1, "adrenal_gland_left")):
        tip = (32 * side, 24, 50)
        canvas.tube([(30 * side, 22, 56), tip], [3, 4], 78, organ)
        canvas.tube([tip, (36 * side, 44, 36)], [4, 3], 78, organ)
        canvas.tube([tip, (48 * side, 36, 32)], [4, 3], 78, organ)


def _draw_vessels(canvas: _Canvas) -> None:
    canvas.tube([(8, 8, 130), (12, 10, 95), (22, 14, 80)], [9, 9, 8], 65, "esophagus")
    portal: list[Point] = [(-10, -2, -4), (-26, -4, 22), (-40, -8, 38), (-78, -8, 44)]
    canvas.tube([(-12, -14, -110), (-10, -12, -40), portal[0]], [6, 6.5, 7], _VEIN)
    canvas.tube(portal[2:], [6, 4], _VEIN, "liver")
    canvas.tube([portal[2], (-16, -38, 58), (20, -52, 60)], [6, 4.5, 3], _VEIN, "liver")
    canvas.tube(portal[:3], [7.5, 7.5, 6.5], _VEIN, "portal_vein_and_splenic_vein")
    splenic: list[Point] = [portal[0], (20, -2, 8), (48, 14, 20), (82, 34, 34)]
    canvas.tube(splenic, [6, 5, 5, 4], _VEIN, "portal_vein_and_splenic_vein")
    canvas.tube([(10, 22, -130), (10, 22, 60), (12, 26, 130)], [9.5, 11, 12.5], _ARTERY, "aorta")
    canvas.tube([(10, 14, 8), (8, 0, -10), (6, -8, -60), (4, -12, -110)], [4, 4, 4, 3], _ARTERY)
    canvas.tube([(10, 14, 20), (8, 0, 22), (30, 4, 24), (80, 30, 40)], [4, 4, 3, 3], _ARTERY)
    cava: list[Point] = [(-18, 24, -130), (-18, 24, 0), (-24, 20, 50), (-22, 20, 94), (-16, 4, 112)]
    canvas.tube(cava, [11, 12, 13, 14, 13], _VEIN, "inferior_vena_cava")
