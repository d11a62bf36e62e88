"""Networks that turn a signal into features: transformers, convolutional networks, state spaces."""
