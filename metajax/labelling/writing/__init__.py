"""What is written of labels: tables, other tools' forms, links and a page."""
