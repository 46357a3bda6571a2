"""Makes a run a model that comes with the library: its weights, its results, and the card that says all about it.

python -m scripts.ship NAME RUN   # after evaluate.py: weights of the best checkpoint, results/NAME, and the card
python -m scripts.ship            # writes all cards anew, from results/
"""

import json
import sys
from pathlib import Path

import hfsgm_jax
from hfsgm_jax.config import load_config
from hfsgm_jax.evaluation.records import read_results
from hfsgm_jax.evaluation.report import num_parameters
from hfsgm_jax.evaluation.tables import markdown, table
from hfsgm_jax.models import MODELS, build_model
from hfsgm_jax.shipped import PRETRAINED, pretrained
from scripts.results import RESULTS, keep, metrics

TASKS = {"likelihood": "Likelihood", "classify": "Few-shot classification", "sample": "New images"}
UNSHOWN = "sha256", "seed", "convergence"

CARD = """\
# {name}

{what}

```python
few = hfsgm_jax.load("{name}")
images = few.read(["a.png", "b.png"])  # 1 or more drawings of one character, any size
few.generate(images, num=16)
```

| | |
|---|---|
| model | `{model}`, {parameters:,} parameters, weights in {dtype} ({size:.2f} MB) |
| data | {data} |
| objective | `{objective}`, sets of {set_size}, {sets} sets per batch |
| training | step {step:,} of {steps:,}, {images:,} images seen, {minutes:.0f} minutes{after} |
| machine | {machine} |
| code | commit {commit}, config beside this card |

{note}
{tables}

All numbers are of characters that training and validation have not seen, with the float32 weights of the run; ± is the
standard error over classes (or episodes). Bounds are nats per image. Recognised: the share of samples that a classifier
of images names rightly among 20 classes; diversity: the distance between samples of a class; copying: from a sample to
the nearest image of its context, and the share of samples that are closer than all but 5 % of real images. Tables are
made from results/{name}.

**Limits.** The model knows single handwritten characters, light strokes of one width on a sheet of 28 x 28 pixels, and
nothing else: other images are taken for characters. Its likelihoods compare with those of the same data only.

**Licence.** Weights: Apache 2.0, as the library. Trained on Omniglot (B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum:
Human-level concept learning through probabilistic program induction, Science 2015; MIT licence).
"""


def card(name: str) -> str:
    """The card of a model, from results/NAME."""
    folder, weights = RESULTS / name, PRETRAINED / name
    config, where = load_config(weights), json.loads((folder / "machine.json").read_text())
    step = hfsgm_jax.load(name).step
    last = [line for line in metrics(folder) if line["step"] <= step][-1]
    start = json.loads((folder / "config.json").read_text())["train"].get("start")
    after = f"; with those of `{start}`, whose parameters it started from" if start else ""
    model, data = build_model(config.model, config.image_shape), config.data
    more = [f"{data.resize} 28x28", *(["flips and quarter turns as classes of their own"] if data.dihedral else [])]
    tables = []
    for task, title in TASKS.items():
        records = [r for r in read_results(folder / f"{task}.json") if r.get("value") is not None]
        records = [{k: v for k, v in r.items() if k not in UNSHOWN} for r in records if r["name"] not in UNSHOWN]
        tables += [f"## {title}\n\n{markdown(table(records))}"] if records else []
    return CARD.format(
        name=name,
        what=(MODELS[config.model.name].__doc__ or config.model.name).splitlines()[0],
        model=config.model.name,
        parameters=num_parameters(model),
        dtype="bfloat16",
        size=(weights / "weights.msgpack").stat().st_size / 1e6,
        data=f"{data.source}, training characters of `{data.split}` ({'; '.join(more)})",
        objective=config.objective.name,
        set_size=data.set_size,
        sets=data.sets_per_batch,
        step=step,
        steps=config.train.steps,
        images=last["images"],
        minutes=last["seconds"] / 60,
        after=after,
        machine=f"{where['cpu']}, {where['cores']} of its cores" if where["device"] == "cpu" else where["device"],
        commit=where["commit"],
        note=(folder / "note.md").read_text() if (folder / "note.md").exists() else "",
        tables="\n\n".join(tables),
    )


def main(name: str = "", run: str = "") -> None:
    if name:
        keep(Path(run), name)
        hfsgm_jax.export(run, PRETRAINED / name)
    for found in pretrained():
        (PRETRAINED / found / "card.md").write_text(card(found))
        print(PRETRAINED / found / "card.md")


if __name__ == "__main__":
    main(*sys.argv[1:])
