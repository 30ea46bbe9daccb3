"""`vitrim view`: runs live on a local page. Read variants.py (the same weights with fewer tokens) first, then
routes.py (the page and its one question).
"""
