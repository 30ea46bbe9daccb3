"""What a composition costs: operations and parameters counted, time measured, on which machine.

Read first: costs.py (the figures and their conventions), then bench.py.
Imports only: compose and below.
"""
