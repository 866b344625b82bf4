"""From files to batches: cases, cache, patches, mixing."""
