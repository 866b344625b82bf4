"""The command `multiorganseg-train`: arguments and texts, nothing else."""
