"""What a run is: its configuration, its data and its directory."""
