"""How far labels can be trusted: calibrated, scored, compared, doubted."""
