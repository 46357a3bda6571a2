"""The VHE paper's 1D study (section 4.1, figures 3 and 9): NS against VHE on classes of single numbers, over |D|.

python -m examples.one_dim.study --out=results/one_dim

Writes into ``--out``: ``results.json``, ``table.md`` and ``figure.png``. The constants that the paper does not give
stand in `runs.py` and `laws.py`. For every family, objective and |D| the best of four independent runs by
training error over all training classes is measured on 100 test classes. Half of the runs anneal the weight of the KL
from 0, as the paper's do; the others do not, as annealing can leave NS beside its own, collapsed optimum. Measured are:

* ``kl``: KL(q(c; D) || p(c)), the information of c.
* ``nll``: -E_{c ~ q(c; D)} log p(x' | c) of numbers x' of the class that are not in D.
* ``error``: how often, of two classes, the other one has the lower ``nll`` of such a number (a tie counts half); over
  all pairs of test classes. Each class draws its own c.
* ``error_shared``: the same with one noise of c for both classes: what little their posteriors differ by then decides,
  which hides a c that says next to nothing.
* ``joint_nll``: -log p(X) per number, of whole classes: an importance-weighted bound with 200 samples of q(c; X).
  Beside it stands the exact value of the law that the data were drawn from.

A difference of VHE and NS is paired over test classes. Inherent in the study: q is linear in the mean of D, which is
exact for the Gaussian, so that NS reaches the law of the data from |D| = 2 on (nearly so for von Mises and gamma from
|D| = 5 on; not for the other two); there VHE, whose KL is charged to whole classes, has a joint NLL slightly above it.

By default all parameters of a family are linear in c (positive ones through a softplus), so that p(x | c) can do
without c: one broad Gaussian for all classes, say. With ``--known`` the parameters that all classes share have their
true values instead; then no family but the discrete one can fit the data without c, and NS does not neglect it.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from examples.one_dim.laws import FAMILIES, POINTS, SHARED, exact_log_likelihood, numbers
from examples.one_dim.model import one_dim  # noqa: F401  registers the model
from examples.one_dim.runs import (
    DRAWS,
    IMPORTANCE_SAMPLES,
    MEASURES,
    QUERIES,
    SAMPLES_C,
    Runs,
    study_config,
)
from hfsgm_jax import data
from hfsgm_jax.devices import use_compilation_cache
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.records import bootstrap_error
from hfsgm_jax.evaluation.tables import Table, markdown
from scripts.machine import machine

OBJECTIVES = ("ns", "resample", "rescale", "vhe")
SIZES = (1, 2, 5, 10, 50)
RESTARTS = 4
TITLES = {
    "kl": "KL of c, nats",
    "nll": "|D|-shot NLL, nats",
    "error": "binary classification error",
    "error_shared": "the same, one noise for all classes",
    "joint_nll": "joint NLL, nats per number",
}
CLAIMED = [name for name in MEASURES if name != "error_shared"]  # of the paper
EXACT = "exact"  # in the place of an objective: the law of the data


def study(config: ConfigDict, sizes: Sequence[int], restarts: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Trains and measures the models of one family and objective.

    Returns:
      A record per |D| and measure; and measure -> ``[len(sizes), test classes]``.
    """
    start = time.monotonic()
    runs = Runs(config, sizes, restarts)
    params, errors = runs.train()
    trained = time.monotonic()
    found = runs.measure(runs.best(params, errors))
    named = dict(family=config.model.family, objective=config.objective.name)
    records = []
    for row, size in enumerate(sizes):
        error, all_errors = float(errors[row].min()), errors[row].tolist()
        records.append(dict(name="training_error", **named, set_size=size, value=error, restarts=all_errors))
        records += [dict(name=name, **named, set_size=size, **_mean(found[name][row])) for name in MEASURES]
    seconds = round(trained - start, 1), round(time.monotonic() - trained, 1)
    print(f"{named['family']} {named['objective']}: trained in {seconds[0]} s, measured in {seconds[1]} s", flush=True)
    return records, found


def claims(found: dict[str, dict[str, Any]], family: str, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The paper's claims of a family: at every |D|, VHE minus NS of each measure, paired over test classes.

    The claim: c says more, and classification and likelihoods are no worse. ``holds``: the difference is on the
    claimed side, or within two standard errors of 0.
    """
    for row, size in enumerate(sizes):
        for name in CLAIMED:
            difference = _mean(found["vhe"][name][row] - found["ns"][name][row])
            wrong = -difference["value"] if name == "kl" else difference["value"]
            holds = wrong <= 2 * difference["standard_error"]
            yield dict(name=f"{name}_difference", family=family, set_size=size, holds=holds, **difference)


def exact(config: ConfigDict) -> dict[str, Any]:
    """The joint NLL of the test classes under the law they were drawn from."""
    family = config.model.family
    test = data.load_dataset(config.data, "test", dataset=numbers(family, config.data.seed))
    values = -exact_log_likelihood(family, test.images.reshape(-1, POINTS).astype(np.float64)) / POINTS
    return dict(name="joint_nll", family=family, objective=EXACT, set_size=POINTS, **_mean(values))


def _mean(values: np.ndarray) -> dict[str, float]:
    """Mean over test classes, and its standard error."""
    return dict(value=float(values.mean()), standard_error=bootstrap_error(values, np.ones(len(values))))


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row per family, objective and measure, a column per |D|; ± standard error over test classes."""
    records = [record for record in records if record["name"] in MEASURES]
    sizes = sorted({record["set_size"] for record in records if record["objective"] != EXACT})
    at = {(r["family"], r["objective"], r["name"], r["set_size"]): r for r in records}
    cell = lambda r: f"{r['value']:.3f} ± {r['standard_error']:.3f}" if r else ""
    rows = []
    for family in dict.fromkeys(record["family"] for record in records):
        for name in MEASURES:
            for objective in dict.fromkeys(o for f, o, n, _ in at if (f, n) == (family, name)):
                cells = [cell(at.get((family, objective, name, size))) for size in sizes]
                if objective == EXACT:
                    cells[0] = cell(at[family, EXACT, name, POINTS])
                rows.append([family, TITLES[name], objective, *cells])
    return markdown(Table(["family", "measure", "objective", *(f"|D| = {size}" for size in sizes)], rows))


def claims_table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: VHE minus NS, a row per family and measure, a column per |D|; bold where the claim fails."""
    found = [record for record in records if record["name"].endswith("_difference")]
    sizes = sorted({record["set_size"] for record in found})
    cell = lambda r: f"{r['value']:+.3f} ± {r['standard_error']:.3f}"
    rows: dict[tuple[str, str], list[str]] = {}
    for record in found:
        words = cell(record) if record["holds"] else f"**{cell(record)}**"
        rows.setdefault((record["family"], record["name"].removesuffix("_difference")), []).append(words)
    title = f"VHE minus NS: the paper's claims hold in {sum(r['holds'] for r in found)} of {len(found)} cells."
    columns = ["family", "measure", *(f"|D| = {size}" for size in sizes)]
    return f"{title}\n\n{markdown(Table(columns, [[*named, *cells] for named, cells in rows.items()]))}"


def draw(records: Sequence[dict[str, Any]], path: Path) -> None:
    """The paper's figure: a row per measure, a column per family, a line per objective, over |D|."""
    families = list(dict.fromkeys(record["family"] for record in records))
    page, axes = plots.figure(len(families), rows=len(MEASURES), width=2.7, height=2.0, sharex=True, squeeze=False)
    for (row, name), (column, family) in ((a, b) for a in enumerate(MEASURES) for b in enumerate(families)):
        axis, here = axes[row, column], [r for r in records if (r["name"], r["family"]) == (name, family)]
        for objective in dict.fromkeys(r["objective"] for r in here):
            line = [(r["set_size"], r) for r in here if r["objective"] == objective]
            if objective == EXACT:
                axis.axhline(line[0][1]["value"], color="0.4", linestyle="--", linewidth=1, label="law of the data")
            else:
                plots.errorbars(axis, line, label=objective.upper() if len(objective) < 4 else objective)
        sizes = sorted({r["set_size"] for r in here if r["objective"] != EXACT})
        axis.set(xscale="log")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        if row == 0:
            axis.set_title(family.replace("_", " "), fontsize=10)
        if row == len(MEASURES) - 1:
            axis.set_xlabel("|D|")
        if column == 0:
            axis.set_ylabel(TITLES[name], fontsize=8)
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    page.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    plots.save(page, path)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's arguments; ends the program with a message where they make no sense."""
    parser = argparse.ArgumentParser(description="The VHE paper's 1D study.")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, table.md, figure.png")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=("ns", "vhe"))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="the |D|")
    parser.add_argument("--restarts", type=int, default=RESTARTS, help="runs, of which the best is measured")
    parser.add_argument("--seed", type=int, default=0, help="of the data and, plus the restart, of the runs")
    parser.add_argument("--known", action="store_true", help="parameters that all classes share are not learned")
    args = parser.parse_args(arguments)
    if not all(1 <= size <= POINTS - QUERIES for size in args.sizes):
        parser.error(
            f"--sizes {args.sizes}: a class has {POINTS} numbers, {QUERIES} of them x', so 1 to {POINTS - QUERIES}"
        )
    if args.restarts < 1 or args.seed < 0:
        parser.error("--restarts is at least 1, and --seed not negative")
    return args


def main() -> None:
    args = parse()
    use_compilation_cache()
    start, records = time.monotonic(), []
    for family in args.families:
        settings = max(args.sizes), args.seed, SHARED[family] if args.known else ()
        found, sizes = {}, sorted(set(args.sizes))
        for objective in args.objectives:
            of_objective, found[objective] = study(study_config(family, objective, *settings), sizes, args.restarts)
            records += of_objective
        if {"ns", "vhe"} <= found.keys():
            records += claims(found, family, sizes)
        records.append(exact(study_config(family, args.objectives[0], *settings)))
    write(records, args, time.monotonic() - start)


def write(records: Sequence[dict[str, Any]], args: argparse.Namespace, seconds: float) -> None:
    """All files of the study, and the table on the screen."""
    args.out.mkdir(parents=True, exist_ok=True)
    conditions = dict(
        split="test",
        seed=args.seed,
        known=args.known,
        restarts=args.restarts,
        draws=DRAWS,
        queries=QUERIES,
        samples_c=SAMPLES_C,
        importance_samples=IMPORTANCE_SAMPLES,
    )
    provenance: dict[str, Any] = dict(machine=machine(), seconds=round(seconds, 1), conditions=conditions)
    (args.out / "results.json").write_text(json.dumps({**provenance, "records": records}, indent=1) + "\n")
    (args.out / "table.md").write_text(f"{table(records)}\n\n{claims_table(records)}\n")
    draw(records, args.out / "figure.png")
    print(table(records))
    print(f"{seconds:.0f} s; {args.out / 'results.json'}, {args.out / 'table.md'}, {args.out / 'figure.png'}")


if __name__ == "__main__":
    main()
