"""`cpu_best.py` with a PixelCNN head, on the papers' strokes: below their NELBO after minutes on two CPU cores?

    python train.py --config=configs/cpu_best_pixelcnn.py --workdir=runs/cpu_best_pixelcnn
    python evaluate.py --workdir=runs/cpu_best_pixelcnn --tasks=likelihood,sample,report

To beat, back_eval, resize gmn, sets of 5: NELBO 77.9, NLL 71.5 nats per image (SCHA-VAE paper, Table 1), by a model
without such a head. Of all changes that scripts/recipes.py tried this one did most: two gated layers see the
pixels above and to the left, so that the latents need not describe how smooth a stroke is.
"""

from configs import cpu_best


def get_config():
    config = cpu_best.get_config()
    config.data.resize = "gmn"
    config.model.update(pixelcnn_layers=2, pixelcnn_width=32)
    config.train.steps = 2_000
    return config
