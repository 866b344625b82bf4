"""Networks of other programs as bundles: nothing of theirs is executed or needed."""
