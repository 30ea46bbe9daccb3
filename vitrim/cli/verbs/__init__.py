"""The verbs of the command line, one file each; `cli/main.py` lists them and says what a verb file holds."""
