"""The layer between a socket and a view, for any Django app.

Strict JSON, errors of one shape, request ids, event streams, the server; and logs, metrics, traces and admin classes
that several apps share.
"""

__version__ = "0.1.0"
