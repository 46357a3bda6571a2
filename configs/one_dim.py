"""VHE or NS on classes of single numbers: the VHE paper's 1D study (section 4.1).

    python train.py --config=configs/one_dim.py:gaussian-vhe --workdir=runs/one_dim

The argument is FAMILY-OBJECTIVE: gaussian, gaussian_mixture, von_mises, gamma or discrete, and ns, resample, rescale
or vhe. The whole study, which trains this for every family and several |D| and draws the paper's figure 3:

    python -m scripts.one_dim_study --out=results/one_dim

The paper gives neither the constants of the data (`hfsgm_jax/data/one_dim.py`: N(0, 1) means, sigma 0.3, gap 1.5,
kappa 10, beta 1, alpha uniform in 1 ... 10) nor these: c has 2 numbers; an epoch shows each of the 100 training
classes once, in sets of |D|, 10 sets a step; Adam at 0.02, down to 0 along a cosine. As in the paper, the KL's weight
grows for 50 epochs and 200 follow.
"""

from configs import base

CLASSES, ROWS = 100, 10
WARMUP, EPOCHS = 50, 200


def get_config(argument: str = "gaussian-vhe"):
    family, _, objective = argument.partition("-")
    config = base.get_config()
    config.data.update(source="one_dim", family=family, split="official", image_size=1, binarize="none")
    config.data.update(set_size=5, sets_per_batch=ROWS)
    config.model.update(name="one_dim", likelihood=family, c_channels=2)
    config.objective.name = objective

    epoch = CLASSES // ROWS
    config.objective.kl_warmup = WARMUP * epoch
    config.optimizer.learning_rate = 0.02
    config.optimizer.schedule = "cosine"
    config.optimizer.decay_factor = 0.0
    config.train.update(steps=(WARMUP + EPOCHS) * epoch, steps_per_epoch=epoch, log_every=100, eval_every=500)
    config.train.update(save_every=500, sample_every=0)
    config.eval.transfer = ()  # no other source is of single numbers
    return config
