"""Private: files written whole, arrays, archives, hashes, locks and pages."""
