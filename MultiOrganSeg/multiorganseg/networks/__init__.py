"""Networks on the whitelist and how they are built."""
