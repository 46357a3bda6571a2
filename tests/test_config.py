"""Configs: the table of keys, values and combinations that are refused, files."""

import json
import math

import pytest

from hfsgm_jax import config as config_lib
from hfsgm_jax import default_config
from hfsgm_jax.config import KEYS, check_config, dump_config, flatten, load_config, nearest_key
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.models import MODELS, constructor


def changed(model="scha_vae", **changes):
    """A default config with ``section__key=value`` set, whatever its type."""
    config = default_config(model)
    with config.ignore_type(), config.unlocked():
        for name, value in changes.items():
            section, _, key = name.partition("__")
            (config[section] if key else config)[key or section] = value
    return config


@pytest.mark.parametrize("name", MODELS)
def test_defaults_are_valid_but_for_images_of_groups_and_styles(name):
    more = {"hierarchical_vhe": dict(data__group_size=5)}
    more["factorial_vhe"] = dict(data__style_size=5, data__styles=9, data__channels=3, data__binarize="none")
    more["factorial_vhe"] |= dict(objective__name="vhe", objective__targets=1)
    more["one_dim"] = dict(data__source="arrays", data__image_size=1)
    check_config(changed(name, **more.get(name, {})))


@pytest.mark.parametrize("name", [*KEYS, "model.width", "model.aggregate", "model.prior_sees_images"])
def test_odd_values_of_every_key_are_refused_with_a_sentence(name):
    section, _, key = name.rpartition(".")
    valid = {**KEYS, **config_lib.model_keys("scha_vae")}[name].kind.valid
    for value in (math.nan, math.inf, -math.inf, -1, 2**63, "wrod", "", [], (1, 2, 3), ("a", "b"), {}, True, None, 1.5):
        config = changed(**{f"{section}__{key}" if section else key: value})
        if valid(flatten(config).get(name)) or value == {}:  # a ConfigDict takes True for 1.0
            continue
        with pytest.raises(ConfigError) as error:
            check_config(config)
        assert str(error.value).startswith(f"{name}=") and "\n" not in str(error.value)


def test_few_odd_values_pass():
    """A table whose checks let everything through would pass the test above."""
    odd = (math.nan, math.inf, -1, "", [], (1, 2, 3), ("a", "b"))
    passed = {name: [x for x in odd if key.kind.valid(x)] for name, key in KEYS.items()}
    assert {name for name, found in passed.items() if found} <= {"eval.transfer", "eval.set_sizes", "eval.shots"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(train__steps_per_dispatch=3), "train.steps=100000 is no multiple of train.steps_per_dispatch=3"),
        (dict(optimizer__name="adan"), "optimizer.name='adan' is not one of adam, adamw, adamax; did you mean 'adam'"),
        (dict(eval__transfer=("mnits",)), "eval.transfer='mnits' is not one of .*; did you mean 'mnist'"),
        (dict(optimizer__schedule="plateau", train__eval_every=0), "follows validations: it needs train.eval_every"),
        (dict(optimizer__schedule="plateau", optimizer__decay_factor=1.0), r"in \(0, 1\)"),
        (dict(objective__targets=3), "scores the context itself"),
        (dict(objective__name="vhe", model__prior_sees_images=True), "only with model.prior_sees_images=False"),
        (dict(objective__name="tightened", data__copies=20, data__affine=0.1), "data.copies=1"),
        (dict(model__likelihood="discretized_normal"), "256 grey levels"),
        (dict(data__group_size=5), "no latents that these images inform"),
        (dict(data__styles=5), "256 levels"),
        (dict(data__styles=5), "one target per set: use .*objective.name='vhe', objective.targets=1"),
        (dict(data__styles=5, data__channels=3), "use both .*, or neither"),
        (dict(data__style_size=5, data__channels=3), "use both .*, or neither"),
        (dict(data__styles=1, data__style_size=5, data__channels=3), "at least 2"),
        (dict(data__styles=5, data__style_size=5), "data.channels=3"),
        (dict(model__width=30), "model.width=30 is no multiple of 4"),
        (dict(data__image_size=30), "28, 32, 40, 64"),
        (
            dict(model__widht=30),
            "unknown config key 'model.widht' of model.name='scha_vae'; did you mean 'model.width'",
        ),
        (dict(model__layers=3), "unknown config key 'model.layers' of model.name='scha_vae'"),
        (dict(model__name="scha"), "model.name='scha' is not one of .*did you mean 'scha_vae'"),
        (dict(data__source="omniglott"), "did you mean 'omniglot'"),
        (dict(eval__split="tests"), "did you mean 'test'"),
        (dict(data__set_size=(5, 2)), "low <= high"),
    ],
)
def test_impossible_combinations(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_config(changed(**changes))


@pytest.mark.parametrize(
    ("name", "message"), [("hierarchical_vhe", "data.group_size"), ("factorial_vhe", "style_size")]
)
def test_latents_of_groups_and_styles_need_images(name, message):
    with pytest.raises(ConfigError, match=f"needs .*{message}"):
        check_config(changed(name))


def test_all_problems_are_named_at_once_and_missing_keys_too():
    config = changed(optimizer__learning_rate=math.inf, train__keep=0, data__path=7)
    del config.optimizer["ema"]
    with pytest.raises(ConfigError) as error:
        check_config(config)
    assert len(str(error.value).splitlines()) == 4 and "config.optimizer.ema is missing" in str(error.value)


def test_the_nearest_key():
    valid = flatten(default_config())
    assert nearest_key("model.widht", valid) == "model.width"
    assert nearest_key("learning_rate", valid) == "optimizer.learning_rate"
    assert nearest_key("zzzz", valid) is None


def test_overrides():
    config = config_lib.set_overrides(default_config("ns"), {"eval.set_size": 7, "model.width": 8, "seed": 3})
    assert (config.eval.set_size, config.model.width, config.seed) == (7, 8, 3)
    texts = {"eval.shots": "1,5", "eval.transfer": "mnist", "data.set_size": "(2, 5)", "train.minutes": "2"}
    texts |= {"data.flip": "true", "data.path": "7", "eval.source": "None", "model.name": "vae", "model.blocks": "3"}
    found = flatten(config_lib.set_overrides(config, texts))
    expected = [[1, 5], ["mnist"], [2, 5], 2.0, True, "7", None, "vae", 3]
    assert [found[name] for name in texts] == expected and type(found["train.minutes"]) is float
    for overrides, message in (({"eval.set_sise": 7}, "'eval.set_size'"), ({"eval.set_size": -7}, "eval.set_size=-7")):
        with pytest.raises(ConfigError, match=message):
            config_lib.set_overrides(config, overrides)


def test_a_constructor_makes_keys(monkeypatch):
    @constructor("mine")
    def mine(image_shape=(28, 28, 1), *, width: int = 8):
        return MODELS["ns"](image_shape, width=width)

    try:
        config = default_config("mine")
        assert config.model.to_dict() == {"name": "mine", "width": 8}
        check_config(config)
    finally:
        del MODELS["mine"]


def test_config_json_keeps_values_and_types(tmp_path):
    config = changed(data__set_size=(2, 5), data__path="x", image_shape=(28, 28, 1))
    dump_config(config, tmp_path)
    loaded = load_config(tmp_path)
    assert loaded.data.set_size == (2, 5) and flatten(config) == flatten(loaded)
    assert {k: type(v) for k, v in flatten(loaded).items()} == {k: type(v) for k, v in flatten(config).items()}


RUN = default_config().to_dict() | {"image_shape": [28, 28, 1]}
ODD = [{key: RUN[key] for key in RUN if key != name} for name in ("model", "image_shape")]


@pytest.mark.parametrize(
    "content", ["[1, 2]", "{", '{"a": 1}', "\xff\x00", '{"model": 3}', "null", *map(json.dumps, ODD)]
)
def test_a_config_json_that_is_none_is_said(tmp_path, content):
    with pytest.raises(ConfigError, match="not the folder of a run"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match="config.json"):
        load_config(tmp_path)


def test_only_how_long_and_where_may_change_when_a_run_continues(tmp_path):
    config = changed(image_shape=(28, 28, 1))
    config_lib.check_same_run(tmp_path, config)
    dump_config(config, tmp_path)
    config.train.steps, config.eval.set_size, config.data.data_dir = 7, 3, "/elsewhere"
    config_lib.check_same_run(tmp_path, config)
    config.optimizer.learning_rate = 0.1
    with pytest.raises(ConfigError, match="optimizer.learning_rate: 0.0002 there, 0.1 now"):
        config_lib.check_same_run(tmp_path, config)
    json.loads((tmp_path / "config.json").read_text())
