"""Trains a model: ``python train.py --config=configs/NAME.py --workdir=DIR [--config.SECTION.KEY=VALUE ...]``."""

from hfsgm_jax.programs.train import main

if __name__ == "__main__":
    main()
