"""report.html: one page, complete in itself, that shows what runs achieved and which patches they looked
at.

Read first: page.py, then summary.py.
Imports only: training and below.
"""

from vitrim.report.page import write_report as write_report
