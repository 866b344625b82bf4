"""The sections of the module's panel: small classes over the widgets of the .ui file."""
