"""The VHE paper's 1D study (section 4.1): likelihoods, data and a model added to the library from outside."""
