"""Typed gRPC services for other languages, read off the contracts of actors."""
