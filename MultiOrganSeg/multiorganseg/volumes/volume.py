"""The volume: voxels, where they lie in the patient, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxel centres in patient space.

    Attributes:
        shape: Number of voxels along (k, j, i): array order, slowest axis first.
        affine: 4×4 matrix from homogeneous voxel index (i, j, k, 1) to LPS patient space in mm, as in
            SimpleITK. Columns may be oblique or sheared (gantry tilt) but must be linearly independent.
    """

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxel centres along (k, j, i)."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(k), float(j), float(i)

    @property
    def directions(self) -> NDArray[np.float64]:
        """Unit vectors of the axes as columns (x, y, z) × (i, j, k)."""
        return self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³ (the determinant, so that shear counts right)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def to_patient(self, index_kji: NDArray[np.floating] | tuple[float, float, float]) -> NDArray[np.float64]:
        """Map voxel indices (..., 3) in (k, j, i) order to LPS points (..., 3) in mm."""
        index = np.asarray(index_kji, dtype=np.float64)[..., ::-1]
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, point_lps: NDArray[np.floating] | tuple[float, float, float]) -> NDArray[np.float64]:
        """Map LPS points (..., 3) in mm to continuous voxel indices (..., 3) in (k, j, i) order."""
        offset = np.asarray(point_lps, dtype=np.float64) - self.affine[:3, 3]
        return (offset @ np.linalg.inv(self.affine[:3, :3]).T)[..., ::-1]

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both lattices have the same shape and voxel centres within `tolerance` mm."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, -1).T
        return bool(np.abs(self.to_patient(corners) - other.to_patient(corners)).max() <= tolerance)


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume on a grid.

    Attributes:
        voxels: Array (k, j, i). CT in Hounsfield units, MR in its own units, or labels.
        affine: See `Grid.affine`.
        source: Path or description of where the voxels came from.
        modality: DICOM's Modality, such as "CT" or "MR"; empty when the source does not say it.
        warnings: What was mended, guessed or left out on the way here, the gravest first.
    """

    voxels: NDArray
    affine: Affine
    source: str = ""
    modality: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid:
        """The lattice without the voxels."""
        k, j, i = self.voxels.shape
        return Grid((k, j, i), self.affine)
