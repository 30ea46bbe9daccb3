"""Pictures over pictures: which patch ended in which token, and what was attended to."""
