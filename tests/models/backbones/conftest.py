"""What is no test here."""

collect_ignore = ["make_goldens.py"]  # imports timm, which the tests do without
