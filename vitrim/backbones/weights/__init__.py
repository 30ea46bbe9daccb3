"""Weights files of any library, read without unpickling and loaded strictly: `reading` gets the tensors,
`wrappers` finds the backbone among them, `key_maps` has every library's names, `fitting` makes them one
model's, `strict` loads all of them or refuses."""
