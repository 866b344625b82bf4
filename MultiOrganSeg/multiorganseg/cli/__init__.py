"""The command line `multiorganseg`."""
