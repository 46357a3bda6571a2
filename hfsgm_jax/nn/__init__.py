"""Building blocks: layers, aggregators, encoders and decoders. Linen lives here and in `models`."""
