"""The hierarchical Variational Homoencoder: alphabet, character, image.

    python train.py --config=configs/omniglot_hierarchical_vhe.py --workdir=runs/hierarchical
    python evaluate.py --workdir=runs/hierarchical --tasks=shared

The networks of the Neural Statistician with a latent a of the alphabet above c (VHE section 4.3, supplement 6.2, 6.5):
c is inferred from 1 to 5 images of a character, a from 10 images of its alphabet drawn apart from these, and other
images of the character are scored. Optimisation is that of `vhe_deconv`; the paper gives no sizes of D. It prints
pictures (figures 7 and 10) and no number.

The argument is a split, `back_eval` or `ns` (which mixes the characters of all alphabets: none is unseen), or `cpu`: a
small model on `back_eval`, with flips and turns of alphabets as alphabets, for forty minutes of one CPU core.
Measured with this library: not yet; docs/figures.md has the picture of `cpu`.
"""

from configs import paper


def get_config(argument: str = "back_eval"):
    config = paper.homoencoder("hierarchical_vhe", "vhe", sets_per_batch=16)
    paper.set_split(config, "back_eval" if argument == "cpu" else argument, "cpu")
    config.data.set_size = (1, 5)
    config.data.group_size = 10
    config.objective.update(targets=5, alpha=1.0, alpha_decay=0.5)
    config.optimizer.update(clip="value", clip_at=0.5)
    if argument == "cpu":
        config.data.set_size = (1, 3)
        config.data.update(group_size=5, sets_per_batch=8, dihedral=True)
        config.objective.update(alpha=2.0, alpha_decay=0.4)
        config.model.update(width=64, encoder_width=16, blocks=1, a_channels=16, c_channels=32)
        config.optimizer.update(learning_rate=2e-3, warmup=20, schedule="cosine", decay_factor=0.02)
        config.train.update(steps=12_000, log_every=100, eval_every=1_000, save_every=500, sample_every=0)
        config.train.cpu_devices = 1
        config.eval.update(val_sets=64, max_sets=200, importance_samples=20)
    return config
