"""Metrics: how well a segmentation agrees with a reference."""

from multiorganseg.metrics.jaccard import jaccard
from multiorganseg.metrics.overlap import dice, volume_error_percent
from multiorganseg.metrics.scores import OrganScore, evaluate, shared_organs
from multiorganseg.metrics.slice_hausdorff import SliceHausdorff, slice_hausdorff
from multiorganseg.metrics.summary import MetricMean, mean_scores
from multiorganseg.metrics.surface import average_surface_distance, hd95
from multiorganseg.metrics.surface_dice import normalized_surface_distance
from multiorganseg.metrics.voxel_distances import VoxelDistances, voxel_distances

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
