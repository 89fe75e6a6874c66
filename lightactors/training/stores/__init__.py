"""Stores: where rollouts, attempts, spans and resources are kept."""
