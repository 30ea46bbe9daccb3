"""Many runs at once: a grid of data, recipes and seeds, its table, and searches on the validation images."""
