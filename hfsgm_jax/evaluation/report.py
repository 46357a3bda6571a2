"""Report: one self-contained page of all that lies in the folder of a run, or of several runs side by side."""

import base64
import json
import mimetypes
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jinja2

from hfsgm_jax import processes
from hfsgm_jax.config import flatten, load_config
from hfsgm_jax.errors import ConfigError, UserError
from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.page import paper
from hfsgm_jax.evaluation.page.curves import curve_charts
from hfsgm_jax.evaluation.records import Record, Result, read_results
from hfsgm_jax.evaluation.tables import Table, markdown, show, table
from hfsgm_jax.models import abstract_variables, build_model
from hfsgm_jax.run_folder import read_metrics

PAGE = "report.html"
FOLDER = Path(__file__).parent / "page"
WORDS = json.loads((FOLDER / "words.json").read_text())  # tasks: title and explanation, in order; captions of pictures


class Run(NamedTuple):
    """The contents of a run's folder."""

    name: str
    folder: Path
    config: dict[str, Any]
    parameters: int  # 0: of a model that the config does not tell
    lines: list[dict[str, Any]]  # of metrics.jsonl
    results: dict[str, list[Result]]  # by task


Section = dict[str, Any]  # a part of the page: title and, where it has them, about, table, pictures


def report(run: Evaluation) -> Iterator[Record]:
    """Page of all that the run's folder holds: results beside the papers', pictures, curves, config."""

    def measure():
        if processes.is_writer():
            compare([run.workdir], model=run.model)
        return {"pictures": [PAGE]}

    yield Record("report", {}, measure, keep=False)


def compare(folders: Sequence[str | Path], out: str | Path | None = None, model: Any = None) -> tuple[Path, str]:
    """Writes one page about several runs (or one), from the results and metrics that their folders hold.

    Args:
      folders: of runs.
      out: the page; default ``compare.html`` (of one run: ``report.html``) in the first folder.
      model: of one run, the model where the config does not tell it.

    Returns:
      The page, and its tables as Markdown.

    Raises:
      ConfigError: a folder that is no run's, a file among its results that holds something else, ``out`` is a folder.
    """
    distinct = {Path(folder).resolve(): Path(folder) for folder in folders}
    runs = [read_run(folder, model) for folder in distinct.values()]
    if len({run.name for run in runs}) < len(runs):
        runs = [run._replace(name=str(run.folder)) for run in runs]
    out = Path(out or runs[0].folder / ("compare.html" if len(runs) > 1 else PAGE))
    if out.is_dir():
        raise ConfigError(f"--out={out} is a folder; name a file in it, such as {out / 'compare.html'}")
    tasks = dict.fromkeys([*WORDS["tasks"], *(task for run in runs for task in run.results)])
    measured = {task: _section(task, runs) for task in tasks if any(task in run.results for run in runs)}
    new_images = [measured.pop("sample")] if "sample" in measured else []
    sections = [*new_images, dict(title="Overview", table=_facts(runs)), *measured.values(), *_training(runs)]
    title = "Runs side by side" if len(runs) > 1 else f"{runs[0].name}: {paper.model_title(runs[0].config['model'])}"
    values = dict(title=title, sections=sections, config=_config(runs))
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True)
    with processes.replacing(out) as partial:
        partial.write_text(templates.get_template("page.html.j2").render(values), encoding="utf-8")
    return out, "\n\n".join(f"{part['title']}\n\n{markdown(part['table'])}" for part in sections if part.get("table"))


def read_run(folder: Path, model: Any = None) -> Run:
    """The contents of a run's folder; the model is built from the config where it is not given."""
    config = load_config(folder).to_dict()
    try:
        parameters = num_parameters(model or build_model(config["model"], config["image_shape"]))
    except UserError:
        parameters = 0
    results = {path.stem: read_results(path) for path in sorted(folder.glob("eval/*.json")) if path.stem != "report"}
    return Run(folder.resolve().name, folder, config, parameters, read_metrics(folder), results)


def num_parameters(model: Any) -> int:
    """Number of a model's trainable parameters; computes shapes alone."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_variables(model)["params"]))


def data_line(config: Mapping[str, Any]) -> str:
    """The data a model was trained on."""
    data = config["data"]
    size = data["set_size"] if isinstance(data["set_size"], int) else "{} to {}".format(*data["set_size"])
    return f"{data['source']} {data['split']}, resize {data['resize']}, {data['image_size']} pixels, sets of {size}"


def _training(runs: Sequence[Run]) -> list[Section]:
    """Curves; validation NELBOs of other data do not belong into one chart."""
    by_data: dict[str, dict] = {}
    for run in runs:
        by_data.setdefault(data_line(run.config), {})[run.name] = run.lines
    charts = lambda x: [dict(uri=_uri(svg.encode(), "chart.svg"), caption=words) for svg, words in curve_charts(x)]
    return [dict(title="Training", about=f"On {x}.", pictures=charts(lines)) for x, lines in by_data.items()]


def _facts(runs: Sequence[Run]) -> Table:
    """The model and training of every run, a column each."""
    facts = []
    for run in runs:
        last = {"step": 0, "images": 0, "seconds": 0.0, "skipped": 0, **(run.lines or [{}])[-1]}
        speeds = [line["images_per_second"] for line in run.lines if "images_per_second" in line]
        facts.append({
            "model": paper.model_title(run.config["model"]),
            "objective": run.config["objective"]["name"],
            "trained on": data_line(run.config),
            "parameters": f"{run.parameters:,}" if run.parameters else "unknown",
            "steps (skipped)": f"{last['step']:,} ({last['skipped']:,})",
            "images": f"{last['images']:,}",
            "minutes": f"{last['seconds'] / 60:.1f}",
            "images per second": f"{statistics.median_high(speeds):,.0f}" if speeds else "unknown",
        })  # fmt: skip
    return Table(["", *(run.name for run in runs)], [[key, *(fact[key] for fact in facts)] for key in facts[0]])


def _section(task: str, runs: Sequence[Run]) -> Section:
    """A task's records of all runs, the papers' numbers beside them, and their pictures, those of one kind together."""
    captions, records, pictures = WORDS["captions"], [], {}
    for run in runs:
        results = run.results.get(task, [])
        valued = [result for result in results if result.get("value") is not None]
        records += [{**record, "run": run.name} for record in paper.beside(task, valued, run.config, run.lines)]
        for result in results:
            for path in result.get("pictures", ()):
                file = run.folder / path
                words = captions.get(result["name"]) or captions.get(file.stem.split("_")[-1], "")
                uri = _uri(file.read_bytes(), path) if file.is_file() else ""
                pictures.setdefault(path, {})[run.name] = dict(uri=uri, caption=words, path=f"{run.name}/{path}")
    found = [picture for by_run in pictures.values() for picture in by_run.values()]
    title, about = WORDS["tasks"].get(task, (task, ""))
    return dict(title=title, about=about, table=table(records) if records else None, pictures=found)


def _uri(content: bytes, name: str) -> str:
    return f"data:{mimetypes.guess_type(name)[0]};base64,{base64.b64encode(content).decode()}"


def _config(runs: Sequence[Run]) -> Table:
    """The config of one run; of several, the keys in which they differ, but for those of evaluation."""
    flat = [{key: show(value) for key, value in flatten(run.config).items()} for run in runs]
    rows = [[key, *(config.get(key, "") for config in flat)] for key in dict.fromkeys(k for c in flat for k in c)]
    differs = lambda row: len({*row[1:]}) > 1 and not row[0].startswith("eval.")
    return Table(["key", *(run.name for run in runs)], [row for row in rows if len(runs) == 1 or differs(row)])
