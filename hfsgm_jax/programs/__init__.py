"""The command line: training, evaluation, and what a trained model does with image files."""
