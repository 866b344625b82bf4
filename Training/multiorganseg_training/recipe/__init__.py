"""What an experiment is told: recipes and their files."""
