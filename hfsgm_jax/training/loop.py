"""The training run: check, load, restore, then dispatch, log, evaluate, draw, save, until the end."""

import contextlib
import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from hfsgm_jax import config as config_lib
from hfsgm_jax import data, processes, tightening
from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax.models import build_model, check_model
from hfsgm_jax.training.checkpoint import CheckpointError, Checkpoints
from hfsgm_jax.training.feed import check_feed, make_feed
from hfsgm_jax.training.log import Clock, Log, Silent
from hfsgm_jax.training.optimizer import make_optimizer
from hfsgm_jax.training.prepare import load_data, resolve, write_config
from hfsgm_jax.training.state import TrainState, abstract_state, check_averaging, create_state, init_function
from hfsgm_jax.training.step import make_train_step, summarize, to_sets, zero_metrics
from hfsgm_jax.training.stop import Ending, StopSignal
from hfsgm_jax.training.storage import explains_full_disk
from hfsgm_jax.training.validation import make_validation

PICTURE_KEY = 2**31 - 2  # folded into the root key; steps take the numbers below
PICTURE_ROWS = 8


class NonFiniteError(RuntimeError):
    """The loss or its gradient was not finite for too many steps in a row."""


@dataclasses.dataclass
class Programs:
    """What the loop calls; everything is compiled or about to be."""

    config: ConfigDict
    step: Callable  # (state, metrics) -> (state, metrics, step reached)
    validate: Callable[[dict[str, Any]], dict[str, float]]
    draw: Callable[[dict[str, Any], int], None]
    observe: Callable  # (opt_state, validation value) -> opt_state
    zero_metrics: Callable[[], dict[str, jax.Array]]


@dataclasses.dataclass
class Run:
    """Where a run stands. ``images`` are those of the lines logged, the rest is in ``metrics``."""

    state: TrainState
    metrics: dict[str, jax.Array]
    clock: Clock
    step: int = 0
    images: int = 0
    best: tuple[int, float] | None = None  # (step, validation NELBO)
    compile_seconds: float | None = None
    mark: tuple[int, float] = (0, 0.0)  # images and seconds from which the rate counts

    def progress(self) -> dict[str, Any]:
        """What is stored beside the state."""
        step, value = self.best or (None, None)
        images = self.images + int(self.metrics["images"])
        return dict(images=images, seconds=self.clock.seconds, best_step=step, best_value=value)


@dataclasses.dataclass(frozen=True)
class Summary:
    """How a run ended: because of its ``steps``, its ``minutes`` or a ``signal``."""

    state: TrainState
    step: int
    images: int
    seconds: float
    best: tuple[int, float] | None
    ended_by: str


@explains_full_disk
def train(config: ConfigDict, workdir: str | os.PathLike) -> Summary:
    """Trains the model of ``config`` in ``workdir``, or continues what is there.

    Of several processes (`processes.start`) each calls it with the same arguments.

    Raises:
      ConfigError, DataError: what the user has to change, before any long work.
      CheckpointError: there are checkpoints, and none can be read.
      StorageError: the disk is full; what was saved before is whole.
      NonFiniteError: names the first of too many non-finite steps in a row.
    """
    workdir = Path(workdir)
    config_lib.check_config(config)
    config_lib.check_same_run(workdir, config)
    check_feed(config)
    shape = data.image_shape(config.data)
    check_model(config.model, shape)
    mesh_lib.use_compilation_cache()
    mesh_lib.use_cpu_cores(config.data.sets_per_batch // config.optimizer.accumulate, config.train.cpu_devices)
    mesh = mesh_lib.make_mesh(config.train.devices)
    mesh_lib.check_rows(mesh, config.data.sets_per_batch, config.optimizer.accumulate)
    check_averaging(config, build_model(config.model, shape), shape)

    train_data, val_batch, drawn_batch = processes.writer_first(lambda: load_data(config), "data")
    config = resolve(config, train_data)

    whole = mesh_lib.replicated(mesh)
    model = build_model(config.model, config.image_shape)
    optimizer = make_optimizer(config.optimizer, config.train.steps)
    feed = make_feed(train_data, config, mesh)
    root = mesh_lib.place(jax.random.key(config.seed), whole)
    example = jax.eval_shape(lambda sets, key: to_sets(feed.sample(sets, key)), feed.like, root)
    init = init_function(model, optimizer, config.optimizer.ema, example, _auxiliary(config, model, train_data))
    # Not threefry: hundreds of its draws, one per parameter, take longer to compile than the rest of a small run.
    init_key = mesh_lib.place(jax.random.key(config.seed, impl="unsafe_rbg"), whole)
    like = abstract_state(init, init_key, whole)
    metrics_like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), zero_metrics())
    write_config(config, workdir, train_data)

    with (
        Checkpoints(workdir, config.train.keep) as checkpoints,
        StopSignal() as stop,
        processes.together(NonFiniteError, CheckpointError),
    ):
        run = _restore_or_create(checkpoints, like, metrics_like, lambda: create_state(init, init_key, whole), whole)
        ending = Ending(stop, mesh)
        log_type = Log if processes.is_writer() else Silent
        with log_type(workdir, run.step, config.train.steps, config.train.progress, run.images) as log:
            _announce(log, run, like, mesh, workdir)
            ended_by = _end_of(run, config, ending)
            if run.step and ended_by:  # a new run does a step, whatever its time budget
                log.say(f"nothing left to do: the run is at step {run.step} after {run.clock.seconds / 60:.1f} minutes")
                return _summary(run, ended_by)
            step = make_train_step(model, config, optimizer, feed.sample, mesh, feed.sharding)
            with run.clock:
                start = time.monotonic()
                compiled = step.lower(like, metrics_like, feed.like, root).compile()
                run.compile_seconds = time.monotonic() - start
            log.say(f"compiled in {run.compile_seconds:.1f} s")
            arguments = feed.start(run.step)
            programs = Programs(
                config=config,
                step=lambda state, metrics: compiled(state, metrics, next(arguments), root),
                validate=make_validation(model, config, val_batch, mesh, drawn_batch),
                draw=_picture_function(model, val_batch, config.seed, workdir / "samples"),
                observe=jax.jit(optimizer.observe, out_shardings=whole),
                zero_metrics=lambda: mesh_lib.place(zero_metrics(), whole),
            )
            with contextlib.closing(arguments):
                ended_by = _train_until_end(run, programs, checkpoints, log, ending)
            checkpoints.wait()
            log.say(_farewell(run, ended_by, workdir))
            return _summary(run, ended_by)


def _auxiliary(config: ConfigDict, model: Any, dataset: Any) -> Callable[[jax.Array], Any] | None:
    """The parameters of the tightened bound, of which every training image has some."""
    if not config.objective.tightened:
        return None
    sizes = dict(labels=int(dataset.label.max()) + 1, members=int(dataset.size.max()))
    latent_size = tightening.latent_size(model)
    return functools.partial(tightening.init, **sizes, latent_size=latent_size, size=config.objective.embedding)


def _train_until_end(run: Run, programs: Programs, checkpoints: Checkpoints, log: Log, ending: Ending) -> str:
    """Runs dispatches and what is due after them; returns what ended the run."""
    train = programs.config.train
    due = lambda every: every > 0 and run.step % every == 0  # noqa: E731
    run.mark = (run.images + int(run.metrics["images"]), run.clock.seconds)
    reached = previous = None
    ended_by = None
    while not ended_by:
        with run.clock:
            run.state, run.metrics, reached = programs.step(run.state, run.metrics)
            # Two dispatches under way keep the device busy; more would only delay signals and clocks.
            if previous is not None:
                previous.block_until_ready()
            previous = reached
        run.step += train.steps_per_dispatch
        log.advance(run.step)
        ended_by = _end_of(run, programs.config, ending)
        finished = ended_by in ("steps", "minutes")
        evaluate, save = due(train.eval_every) or finished, due(train.save_every) or bool(ended_by)
        draw = due(train.sample_every) or (finished and train.sample_every > 0)
        if evaluate or save or draw or due(train.log_every):
            with run.clock:
                reached.block_until_ready()
            _check_finite(run, train.max_skipped)
        values = programs.validate(run.state.eval_variables) if evaluate else {}
        if due(train.eval_every):
            opt_state = programs.observe(run.state.opt_state, values["val/nelbo"])
            run.state = run.state.replace(opt_state=opt_state)
        if evaluate or due(train.log_every):
            log.write(_line(run, programs) | values)
        if draw and processes.is_writer():
            programs.draw(run.state.eval_variables, run.step)
        if _is_best(run, values) or save:
            checkpoints.save(run.state, run.metrics, run.progress(), values.get("val/nelbo"))
    return ended_by


def _line(run: Run, programs: Programs) -> dict[str, Any]:
    """Takes the metrics added up since the last line off the device: one transfer."""
    with run.clock:
        metrics, skipped = jax.device_get((run.metrics, run.state.skipped))
    run.images += int(metrics["images"])
    run.metrics = programs.zero_metrics()
    seconds = run.clock.seconds
    images_before, seconds_before = run.mark
    line = dict(step=run.step, images=run.images, seconds=round(seconds, 3), **summarize(metrics))
    line["images_per_second"] = (run.images - images_before) / max(seconds - seconds_before, 1e-9)
    line["skipped"] = int(skipped)
    if run.compile_seconds is not None:
        line["compile_seconds"] = round(run.compile_seconds, 3)
        run.compile_seconds = None
    run.mark = (run.images, seconds)
    return line


def _is_best(run: Run, values: dict[str, float]) -> bool:
    """Whether this validation is the best so far; remembers it if so."""
    value = values.get("val/nelbo", math.nan)
    if not math.isfinite(value) or (run.best is not None and value >= run.best[1]):
        return False
    run.best = (run.step, value)
    return True


def _check_finite(run: Run, max_skipped: int) -> None:
    in_a_row = int(run.state.skipped_in_a_row)
    if in_a_row >= max_skipped:
        # The state froze when the count was reached; steps since then did nothing.
        first = run.step - in_a_row
        raise NonFiniteError(
            f"loss or gradient were not finite for {max_skipped} steps in a row, from step {first} on; the run stopped "
            "and nothing of it is saved. A lower optimizer.learning_rate, optimizer.warmup or a smaller "
            "optimizer.clip_at may help; running again continues from the last checkpoint"
        )


def _end_of(run: Run, config: ConfigDict, ending: Ending) -> str | None:
    if run.step >= config.train.steps:
        return "steps"
    return ending.reason(bool(config.train.minutes) and run.clock.seconds >= 60 * config.train.minutes)


def _restore_or_create(checkpoints: Checkpoints, like: TrainState, metrics_like, create, whole) -> Run:
    restored = checkpoints.restore_latest(like, metrics_like)
    if restored is None:
        clock = Clock()
        with clock:
            state = jax.block_until_ready(create())
        return Run(state, mesh_lib.place(zero_metrics(), whole), clock)
    state, metrics, progress = restored
    return Run(
        state,
        metrics,
        Clock(progress["seconds"]),
        step=int(state.step),
        images=progress["images"] - int(metrics["images"]),
        best=checkpoints.best(),
    )


def _picture_function(model: Any, batch: Any, seed: int, folder: Path) -> Callable[[dict[str, Any], int], None]:
    def draw(variables: dict[str, Any], step: int) -> None:
        from hfsgm_jax.evaluation import pictures  # imported late: matplotlib and the like cost seconds

        few = jax.tree.map(lambda x: x[:PICTURE_ROWS], batch)
        folder.mkdir(parents=True, exist_ok=True)
        key = jax.random.fold_in(jax.random.key(seed), PICTURE_KEY)
        pictures.write_sample_grids(model, mesh_lib.local(variables), to_sets(few), key, folder, step)

    return draw


def _announce(log: Log, run: Run, like: TrainState, mesh: Any, workdir: Path) -> None:
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(like.params))
    begin = f"continuing {workdir} from step {run.step}" if run.step else f"training in {workdir}"
    kind = mesh.devices.flat[0].device_kind
    log.say(f"{begin}: {count:,} parameters, {mesh.size} device{'s' if mesh.size > 1 else ''} ({kind})")


def _farewell(run: Run, ended_by: str, workdir: Path) -> str:
    reason = {
        "steps": "all steps done",
        "minutes": "time budget spent",
        "signal": "stopped by SIGTERM; run the same command to continue",
    }[ended_by]
    best = f"; best validation NELBO {run.best[1]:.2f} nats per image at step {run.best[0]}" if run.best else ""
    return f"{reason}: step {run.step}, {run.clock.seconds:.0f} s, saved in {workdir}{best}"


def _summary(run: Run, ended_by: str) -> Summary:
    return Summary(run.state, run.step, run.progress()["images"], run.clock.seconds, run.best, ended_by)
