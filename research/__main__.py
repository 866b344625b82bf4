"""`python -m research` measures, compares and looks into trained runs."""

from research.cli import main

main()
