"""Teaching a trained network further organs without losing those that it knows."""
