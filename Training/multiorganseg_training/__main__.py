"""`python -m multiorganseg_training` is the command `multiorganseg-train`."""

from multiorganseg_training.cli import main

main()
