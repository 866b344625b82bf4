"""Metrics: how well a segmentation agrees with a reference."""

from multiorganseg.metrics.overlap import dice, jaccard, volume_error_percent
from multiorganseg.metrics.report import MetricMean, mean_scores
from multiorganseg.metrics.scores import OrganScore, evaluate, shared_organs
from multiorganseg.metrics.surface import (
    SliceHausdorff,
    VoxelDistances,
    average_surface_distance,
    hd95,
    normalized_surface_distance,
    slice_hausdorff,
    voxel_distances,
)

__all__ = [
    "MetricMean",
    "OrganScore",
    "SliceHausdorff",
    "VoxelDistances",
    "average_surface_distance",
    "dice",
    "evaluate",
    "hd95",
    "jaccard",
    "mean_scores",
    "normalized_surface_distance",
    "shared_organs",
    "slice_hausdorff",
    "volume_error_percent",
    "voxel_distances",
]
