"""The verbs of the command line, one file each; `vitrim.cli` lists them and says what a verb file holds."""
