"""Algorithms: what decides which rollouts to run, and learns from them."""
