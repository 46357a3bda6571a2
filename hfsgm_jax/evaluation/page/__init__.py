"""The report page: its words, curves, the papers' numbers and the template."""
