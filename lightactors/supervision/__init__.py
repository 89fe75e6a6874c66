"""What a supervisor knows and decides: child specs, restarts, the ladder. Plain data and plain functions."""
