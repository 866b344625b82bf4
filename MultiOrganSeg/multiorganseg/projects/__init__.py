"""What training and its user interfaces agree on: projects, runs, and reports of acceptance checks."""
