"""The papers' tables, one a script: our figures beside theirs."""
