"""`report.html`: one page with its data, which a browser shows without a network."""
