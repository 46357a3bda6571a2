"""Binary silhouettes in an .npz file, such as Caltech-101's, by the deconvolutional Variational Homoencoder.

    python train.py --config=configs/silhouettes_vhe.py --config.data.path=FILE.npz --workdir=runs/silhouettes
    python evaluate.py --workdir=runs/silhouettes --tasks=likelihood,sample

FILE.npz holds `images` [n, 28, 28], bool or 0 and 1 (or 255), 1 inside of an object, and `labels` [n], its class. Ten
of the classes are for test, as in the VHE paper (supplement 6.6), which shows 1- and 5-shot samples and prints no
number; classes with fewer images than `data.set_size` have to be left out of the file. The argument is an objective,
`vhe` (default), `ns`, `resample` or `rescale`.
Measured with this library: not yet.
"""

from configs import vhe_deconv


def get_config(objective: str = "vhe"):
    config = vhe_deconv.get_config(objective)
    config.data.update(source="npz", split="vhe_silhouettes", resize="box", binarize="none")
    config.train.update(steps=20_000, steps_per_epoch=0, eval_every=500, save_every=500, sample_every=5_000)
    config.eval.update(ways=10, transfer=())
    return config
