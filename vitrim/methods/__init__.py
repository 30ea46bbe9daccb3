"""Everything that plugs in: reducers, tuners, the selection of weights, quantising, and their notation.

Read first: notation.py (text to method and back), then one method such as reducers/evit.py.
Imports only: network and below.
"""
