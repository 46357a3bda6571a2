"""What the report measures on an accelerator: the paper's model over batches and dtypes, its family, its samplers.

Images are procedural characters, of Omniglot's shape; nothing is read from disk.
"""

from benchmarks import standard
from benchmarks.matrix import items as grid
from benchmarks.runner import Item

PAPER = "omniglot_scha_vae_lag"
TIMED = (*standard.STROKES, "--steps=50", "--seconds=10")
DISPATCH = "--config.train.steps_per_dispatch="
BFLOAT16 = "--config.model.dtype=bfloat16"


def accelerator(devices: int) -> list[Item]:
    """The most telling first; with several devices also how well they work together."""
    several = (*TIMED, f"{DISPATCH}10")
    paper = f"--config=configs/{PAPER}.py"
    alone = [Item(f"train_step_{PAPER}_dispatch1", "train_step", (paper, *TIMED, BFLOAT16, f"{DISPATCH}1"))]
    draws = [
        Item(f"importance_sampling_{PAPER}", "importance_sampling", (paper, "--sets=16", "--samples=1000", BFLOAT16)),
        Item(f"sampling_{PAPER}", "sampling", (paper, "--seconds=5", BFLOAT16)),
        Item("sampling_vhe_pixelcnn", "sampling", ("--config=configs/vhe_pixelcnn.py", "--num=4", "--seconds=5")),
    ]
    together = [
        Item(f"weak_scaling_{PAPER}", "weak_scaling", (paper, *standard.STROKES, f"--devices={devices}", "--rows=16"))
    ]
    return [
        *grid([PAPER], {"batches": ["16"], "dtypes": ["bfloat16", "float32"]}, several),
        *alone,
        *grid([PAPER], {"batches": ["128"], "dtypes": ["bfloat16"]}, several),
        *draws,
        *(together if devices > 1 else []),
        *grid(["omniglot_ns", "omniglot_hfsgm", "vhe_pixelcnn", "omniglot_cns_lag"], {}, several),
        *grid([PAPER], {"batches": ["512"], "dtypes": ["bfloat16"]}, several),
    ]


LISTS = {"accelerator": accelerator, "standard": lambda devices: standard.items(), "none": lambda devices: []}
