"""What a run is told: training settings, published protocols, recipes, and how they settle into one plan.

Read first: training.py (every setting), then run_plan.py (what a run is made of).
Imports only: data and below.
"""
