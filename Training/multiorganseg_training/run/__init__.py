"""One run from recipe to trained network: build, loop, checkpoint, validation."""
