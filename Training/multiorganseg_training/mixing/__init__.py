"""Strong views: pasting a part of one sample into another."""
