"""Where a network puts labelled and unlabelled voxels: variances, distances and a picture."""
