"""What a report says in words: the answer, `report.md`, and the tables on a terminal."""
