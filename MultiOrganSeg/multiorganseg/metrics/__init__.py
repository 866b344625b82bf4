"""Metrics: how well a segmentation agrees with a reference."""

from multiorganseg.metrics.overlap import dice, volume_error_percent
from multiorganseg.metrics.scores import OrganScore, evaluate, shared_organs
from multiorganseg.metrics.summary import MetricMean, mean_scores
from multiorganseg.metrics.surface import average_surface_distance, hd95
from multiorganseg.metrics.surface_dice import normalized_surface_distance

__all__ = [
    "MetricMean",
    "OrganScore",
    "average_surface_distance",
    "dice",
    "evaluate",
    "hd95",
    "mean_scores",
    "normalized_surface_distance",
    "shared_organs",
    "volume_error_percent",
]
