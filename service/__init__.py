"""mlx-grpc: the gRPC inference service."""

import os

# Read when gRPC is imported: its fork handlers are for processes that go on using gRPC after a fork, and with
# them each start of an engine prints a line. Ours only ever executes another program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Its errors reach us as exceptions; the library need not print them as well.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
