"""Losses over what is known of each organ; pseudo-labels; prototypes."""
