"""The same emoji drawn by several foundries: few-shot tasks with the style held out."""
