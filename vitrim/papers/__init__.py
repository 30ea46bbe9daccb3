"""The tables of three papers, recomputed: Sparse-Tuning, TR-PTS and FPET.

Stored is only what the papers print and how each row is composed; every figure of ours is counted anew from
the composed model, on the meta device. In reading order:

    reading.py      how one printed figure is computed
    tables.py       what a table holds
    sparse_tuning*.py, fpet.py, tr_pts.py    the tables, as printed
    reasons.py      why a figure of a paper is not ours, each rule once
    verdicts.py     figures put beside each other
    accuracy.py     accuracies that the papers print, and the two kinds of mean in use
    runs.py         our own accuracies, from run folders
    measuring.py    time and memory of a table's rows, on this machine
    writing.py, page.py    Markdown, CSV and JSON; docs/reproduction.md

Imports only: settings and below.
"""
