"""What both apps stand on.

Between a socket and a view: strict JSON, errors of one shape, request ids, event streams, the server. Beside them:
logs, metrics, traces, and what the admins have in common.
"""

__version__ = "0.1.0"
