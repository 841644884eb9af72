"""Image files as arrays: decoded, fitted to a size, read ahead."""
