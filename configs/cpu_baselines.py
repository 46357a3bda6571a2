"""The papers' other models with fewer features: ten to thirty minutes on one CPU core each.

    python train.py --config=configs/cpu_baselines.py:ns --workdir=runs/ns
    python train.py --config=configs/cpu_baselines.py:scha_vae --config.train.start=omniglot-scha --workdir=runs/mean

The argument is `vae`, `ns`, `cns` (SCHA-VAE paper, Table 1), `vhe_deconv` (VHE paper, Table 3) or `scha_vae`: the
recipe of `omniglot-scha` with the mean in place of attention, best trained on from that model. Classes and resize are
the papers'; features, batch, rate and length are those that such a time allows. docs/results.md has what they give.
"""

from configs import best_scha_vae, omniglot_cns, omniglot_ns, omniglot_vae, vhe_deconv

# Module of the paper's config, width, sets per batch, steps, learning rate, weights of the loss.
BASELINES = {
    "vae": (omniglot_vae, 256, 50, 1_600, 1e-3, dict(alpha=0.0)),
    "ns": (omniglot_ns, 256, 4, 13_000, 2e-3, dict(alpha=2.0, alpha_decay=0.4)),
    "cns": (omniglot_cns, 128, 10, 2_400, 1e-3, dict(alpha=0.0)),
    "vhe_deconv": (vhe_deconv, 256, 10, 1_600, 1e-3, dict(alpha=2.0, alpha_decay=0.4)),
}


def get_config(name: str = "ns"):
    if name not in {*BASELINES, "scha_vae"}:
        raise ValueError(f"the argument of this config is one of {[*BASELINES, 'scha_vae']}, not {name!r}")
    if name == "scha_vae":
        config = best_scha_vae.get_config()
        config.model.aggregate = "mean"
        config.train.update(steps=5_600, eval_every=500)
        return config
    paper_config, width, sets_per_batch, steps, rate, weights = BASELINES[name]
    config = paper_config.get_config()
    config.model.update(encoder_width=32, width=width)
    config.data.update(split="back_eval", sets_per_batch=sets_per_batch, flip=False, rotate=0.0)
    config.objective.update(targets=5 if name == "vhe_deconv" else None, **weights)
    config.optimizer.update(learning_rate=rate, schedule="cosine", decay_factor=0.02, warmup=100, weight_decay=0.0)
    config.optimizer.update(clip="norm", clip_at=200.0)
    config.train.update(cpu_devices=1, steps=steps, steps_per_epoch=0, log_every=100, eval_every=400, save_every=200)
    config.train.sample_every = 0
    config.eval.update(val_sets=97, max_sets=0, estimator="joint", importance_samples=10, importance_samples_z=10)
    return config
