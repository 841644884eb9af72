"""All that is measured on an accelerator, in one unattended call."""
