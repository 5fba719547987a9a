"""Settings of gRPC's core, which reads them from the environment and knows no other way.

Importing this is what makes them, and has to come before anything that imports grpc: its core reads some at once.
"""

import os

_SETTINGS = {
    # It writes by itself, in a form of its own.
    "GRPC_VERBOSITY": "ERROR",
    # grpc.aio polls on a thread of its own; with the event engine each message goes through yet another, which is
    # a fifth of what a token costs here. A core that has no such choice ignores the name.
    "GRPC_EXPERIMENTS": "-event_engine_client",
}

for name, value in _SETTINGS.items():
    os.environ.setdefault(name, value)
