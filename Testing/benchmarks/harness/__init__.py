"""What the benchmarks share: measured child processes, cases, networks, rivals and reports."""
