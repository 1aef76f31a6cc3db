"""Runs application.py with eventlet's server."""

import signal
import sys

import eventlet

eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402

from application import application  # noqa: E402

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), application)
