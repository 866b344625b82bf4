"""Prototypes of labelled and of unlabelled voxels, and the classifiers made of them."""
