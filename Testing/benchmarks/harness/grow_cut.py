"""3D Slicer's fast grow-cut, run from the package slicer-core."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def grow_cut(
    image: NDArray[np.float32], seeds: NDArray[np.uint8], spacing: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Return each voxel (k, j, i) the label of the seed that reaches it first.

    Args:
        image: Intensities.
        seeds: Labels of the seeds; 0 where there is none.
        spacing: mm along (k, j, i).
    """
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    method = slicer.vtkImageGrowCutSegment()
    method.SetIntensityVolume(_image(image, spacing, vtk.VTK_FLOAT))
    method.SetSeedLabelVolume(_image(seeds, spacing, vtk.VTK_UNSIGNED_CHAR))
    method.Update()
    labels: NDArray[np.uint8] = vtk_to_numpy(method.GetOutput().GetPointData().GetScalars())
    return labels.reshape(image.shape).copy()


def _image(values: NDArray, spacing: tuple[float, float, float], kind: int) -> object:
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    result = vtk.vtkImageData()
    result.SetDimensions(*values.shape[::-1])
    result.SetSpacing(*spacing[::-1])
    result.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values).ravel(), True, kind))
    return result
