"""gRPC, as links use it: only here, and where actors are served to other languages, is `grpc` imported."""

import os

# gRPC's C core reads it when it is first imported; it would print what we log, or raise, ourselves.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
