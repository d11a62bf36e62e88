"""The whole road in one call: recordings to a pretrained, evaluated, documented and reloaded model."""
