"""A user's folder of images: what lies in it, by class, and what is wrong with it."""
