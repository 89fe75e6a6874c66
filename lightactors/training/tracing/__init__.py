"""Tracing: what an attempt records of itself, and what is read from it later."""
