"""Files: written whole or not at all, archives, hashes, pages."""
