"""Runners: agents, and what claims rollouts and runs them."""
