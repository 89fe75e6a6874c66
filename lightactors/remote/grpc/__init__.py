"""gRPC, as links use it: only here, and where actors are served to other languages, is `grpc` imported."""

import os

# gRPC's C core reads it when it is first imported; it would print connections' ends, which we log ourselves.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
