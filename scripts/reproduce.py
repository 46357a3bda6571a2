"""Commands, minutes and numbers of the runs in README and docs/results.md (`make reproduce`)."""

import json

from hfsgm_jax.evaluation.records import Result, read_results
from hfsgm_jax.evaluation.tables import number
from hfsgm_jax.run_folder import read_metrics
from scripts.results import RESULTS, rank

# Name -> its config in configs/, and the argument of that.
CONFIGS = {name: ("best_scha_pixelcnn",) for name in ("omniglot-first", "omniglot")}
CONFIGS["hierarchical-vhe"] = "omniglot_hierarchical_vhe", "cpu"
CONFIGS |= {"omniglot-scha-first": ("best_scha_vae",), "omniglot-scha-second": ("best_scha_vae", "longer")}
CONFIGS |= {"omniglot-scha-third": ("best_scha_vae", "longer"), "omniglot-scha": ("best_scha_vae", "longest")}
CONFIGS |= {"omniglot-vhe-first": ("best_vhe",), "vhe-1200": ("best_vhe", "vhe_1200")}
CONFIGS |= {"vhe-1200-few": ("best_vhe", "few_shot"), "vhe-1200-one": ("best_vhe", "one_shot")}
CONFIGS |= {"omniglot-vhe-second": ("best_vhe", "longer"), "omniglot-vhe": ("best_vhe", "longest")}
BASELINES = {"scha-mean": "scha_vae", "cns": "cns", "ns": "ns", "vae": "vae", "vhe-deconv": "vhe_deconv"}
CONFIGS |= {name: ("cpu_baselines", argument) for name, argument in BASELINES.items()}
# Task -> the conditions of a record that a call of evaluate.py has one value of, and others; the options they are of.
OPTIONS = {
    "likelihood": dict(set_size="set_size", num_sets="max_sets"),
    "classify": dict(shots="shots"),
    "sample": dict(temperature="temperature", num_sets="max_sets"),
    "shared": {},
}
MORE = {key: key for key in ("estimator", "importance_samples", "importance_samples_z", "episodes", "class_samples_c")}
MORE |= {"class_samples_z": "class_samples_z", "iterations": "iterations", "samples_per_class": "samples"}


def commands(name: str) -> str:
    """The command of training and those of the evaluations, each above its numbers."""
    run, folder = f"--workdir=runs/{name}", RESULTS / name
    last, where = read_metrics(folder)[-1], json.loads((folder / "machine.json").read_text())
    lines = [f"# {name}: {where['cpu']}, commit {where['commit']}"]
    config, *argument = CONFIGS[name]
    train = f"python train.py --config=configs/{':'.join([config + '.py', *argument])} {run}"
    if start := json.loads((folder / "config.json").read_text())["train"].get("start"):
        train += f" --config.train.start=runs/{start}"
    lines += [train, f"#   {last['seconds'] / 60:.0f} minutes, {last['images']:,} images"]
    for task, options in OPTIONS.items():
        calls: dict[tuple, list[Result]] = {}
        for record in read_results(folder / f"{task}.json"):
            call = tuple((option, record[key]) for key, option in options.items() if key in record)
            calls.setdefault(call, []).append(record)
        for call, records in calls.items():
            flags = dict(call) | {MORE[key]: r[key] for r in sorted(records, key=rank) for key in MORE if key in r}
            numbers = [described(r) for r in records if r.get("unit") and r["name"] != "independent_pixels"]
            flags |= {"transfer": ""} if task == "classify" else {}
            words = " ".join(f"--eval.{option}={value}" for option, value in flags.items())
            found = f"{sum(record['seconds'] for record in records) / 60:.0f} minutes"
            lines += [f"python evaluate.py {run} --tasks={task} {words}", f"#   {found}: {'; '.join(numbers)}"]
    return "\n".join(lines)


def described(record: Result) -> str:
    """``"nll, K 10: 61.65 ± 2.01"``."""
    beside = {"K ": "importance_samples", "": "method", " ": "kind"}
    words = [f"{prefix}{record[key]}".strip() for prefix, key in beside.items() if key in record]
    return f"{', '.join([record['name'], *words])}: {number(record['value'], record.get('standard_error'))}"


if __name__ == "__main__":
    print("\n\n".join(map(commands, CONFIGS)))
