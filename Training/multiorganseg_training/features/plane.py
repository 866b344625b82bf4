"""Features in two dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import DependencyError

PCA, TSNE = "pca", "tsne"
PERPLEXITY = 30.0


@dataclass(frozen=True, eq=False)
class Plane:
    """Points in the plane.

    Attributes:
        pixels: (pixels, 2), float64.
        marks: (marks, 2), float64.
        axes: What the two directions are.
    """

    pixels: NDArray[np.float64]
    marks: NDArray[np.float64]
    axes: tuple[str, str]


def to_plane(pixels: NDArray[np.float32], marks: NDArray[np.float32], method: str, seed: int) -> Plane:
    """Bring features into two dimensions.

    Args:
        pixels: (pixels, width).
        marks: (marks, width): prototypes in the same space; there may be none. They do not tell where the
            principal components lie; t-SNE, which knows no way to add points, places them with the pixels.
        method: "pca" or "tsne" (perplexity 30, started from the principal components).
        seed: Of the random numbers of t-SNE.

    Raises:
        DependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import PCA as PrincipalComponents
        from sklearn.manifold import TSNE as NeighbourEmbedding
    except ImportError as error:
        msg = "The picture of features needs the package scikit-learn."
        raise DependencyError(msg, next_step="Install it: pip install scikit-learn.") from error

    if method == PCA:
        components = PrincipalComponents(2, svd_solver="full").fit(pixels)
        shares = components.explained_variance_ratio_
        names = (f"1st component, {shares[0]:.0%} of variance", f"2nd component, {shares[1]:.0%}")
        placed = components.transform(np.concatenate([pixels, marks])).astype(np.float64)
        return Plane(placed[: len(pixels)], placed[len(pixels) :], names)
    together = np.concatenate([pixels, marks])
    embedding = NeighbourEmbedding(
        2, perplexity=min(PERPLEXITY, (len(together) - 1) / 3), init="pca", random_state=seed
    )
    placed = embedding.fit_transform(together).astype(np.float64)
    return Plane(placed[: len(pixels)], placed[len(pixels) :], ("t-SNE", ""))
