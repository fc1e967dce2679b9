"""Reports: a ReportData is filled from results, plans and scores, and written as text, Markdown or one self-contained page."""
