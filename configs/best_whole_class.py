"""Whole classes of 20 in ten minutes on one H200-class GPU: a SCHA-VAE with a PixelCNN head and the VHE's objective.

    python train.py --config=configs/best_whole_class.py --workdir=runs/best_whole_class
    python evaluate.py --workdir=runs/best_whole_class --tasks=likelihood,classify,sample,report

To beat, back_eval, resize gmn, joint NLL of whole classes, nats per image: 64.34 (SCHA-VAE), 61.22 (PixelCNN VHE).

The body is that of `best_scha_vae.py`. The objective is what whole classes ask for: targets drawn apart from the
context, the set's KL shared among the 20 images of a class. Two gated layers see the pixels above and to
the left, so that the latents need not describe how smooth a stroke is. Its likelihoods are nested: samples of c, and
of every image's z given each.

Evidence so far: curves of minutes on two CPU cores (results/recipes, table in docs/results.md) for the parts, and
results/vhe_effect for the objective with an autoregressive decoder; results/cpu_best_pixelcnn_vhe, short and small,
where the objective brings back little of the class (KL of c 3 nats per image, 14 % of 20-way samples recognised). The
length assumes 6,000 images a second; on a slower device lower `train.steps`.
Measured with this library: not yet.
"""

from configs import best_scha_vae, paper


def get_config():
    config = best_scha_vae.get_config()
    paper.ten_minutes(config, steps=12_000, sets_per_batch=64)
    config.objective.update(name="vhe", targets=5)
    config.model.update(pixelcnn_layers=2, pixelcnn_width=64)
    config.eval.set_size = 20
    paper.whole_classes(config)
    config.eval.importance_samples = 100
    return config
