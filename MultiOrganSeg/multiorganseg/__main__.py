"""`python -m multiorganseg` is the command `multiorganseg`."""

from multiorganseg.cli.app import main

main()
