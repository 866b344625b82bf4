"""The parts of the stand-in Slicer host, one concern a file."""
