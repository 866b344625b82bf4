"""Adding an organ: plan, training, the acceptance check of old against new, publishing."""
