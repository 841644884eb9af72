"""Images with masks or boxes: stores, folders of one's own, and episodes of them."""
