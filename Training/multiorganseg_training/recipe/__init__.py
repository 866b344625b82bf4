"""The settings of an experiment: recipes and their files."""
