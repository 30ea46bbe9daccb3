"""report.html: one page, complete in itself, that shows what runs achieved and which patches they looked
at.
"""

from vitrim.report.page import write_report as write_report
