"""The HTTP server: many adapters on one backbone, answered from one process.

Read first: application.py (how the parts are joined), then service.py (what happens to a picture) and
batching.py (how pictures of many requests and adapters become one batch). door.py stands before everything.
A further router is given to `make_application(..., routers=...)`.
"""
