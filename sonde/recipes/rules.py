"""Rules that the settings of a recipe must satisfy. A recipe that breaks one is refused before data are read or made.

A rule maps a recipe to an error sentence, or to None if the recipe passes. A rule reads the recipe alone. Checks that
need the data or the network run later, when both are open.
"""

from collections.abc import Callable, Iterator

from sonde.recipes.schema import Recipe
from sonde.renamed import keep_old_names

METRIC_SIZES = ("b0", "b1", "b2", "b3", "b4", "b5")
"""Sizes whose network predicts metres only."""

Rule = Callable[[Recipe], str | None]


def find_broken_rules(recipe: Recipe) -> Iterator[str]:
    """The error sentence of each rule that a recipe breaks."""
    for rule in RULES:
        if (sentence := rule(recipe)) is not None:
            yield sentence


def _check_one_input_size(recipe: Recipe) -> str | None:
    if recipe.model.input_size is None or recipe.model.input_pixels is None:
        return None
    return "model.input_size and model.input_pixels both say what the network sees: remove one."


def _check_encoder_has_size(recipe: Recipe) -> str | None:
    model = recipe.model
    if model.encoder is None or model.size is not None:
        return None
    return f"model.encoder={model.encoder} is for a model.size, such as small or b4: remove it, or set model.size."


def _check_depths_have_name(recipe: Recipe) -> str | None:
    model = recipe.model
    if model.depths is None or model.size is None:
        return None
    return f"model.depths cannot be combined with model.size={model.size}: remove one."


def _check_one_depth_limit(recipe: Recipe) -> str | None:
    model = recipe.model
    if model.size is None or model.max_depth is None or model.encoding is None:
        return None
    return (
        f"model.max_depth={model.max_depth:g} and model.encoding={model.encoding} both say where depth ends: set "
        "model.encoding=null for a metric network, or remove model.max_depth and set data.range."
    )


def _check_metric_size_has_limit(recipe: Recipe) -> str | None:
    model = recipe.model
    if model.size not in METRIC_SIZES or model.max_depth is not None or model.encoding is not None:
        return None
    return f"model.size={model.size} predicts metres and needs model.max_depth, such as 80 (road) or 10 (rooms)."


def _check_window_has_size(recipe: Recipe) -> str | None:
    if recipe.data.fit == "stretch" or recipe.model.input_size is not None:
        return None
    return f"data.fit={recipe.data.fit} needs model.input_size, the (height, width) to cut: set it."


def _check_start_trains_head(recipe: Recipe) -> str | None:
    model = recipe.model
    if not model.affine_start or (model.train_head and model.encoding is not None):
        return None
    return "model.affine_start sets the last layer of the head: set model.train_head=true and model.encoding."


def _check_adapter_base_loads_again(recipe: Recipe) -> str | None:
    if recipe.lora is None:
        return None
    if recipe.model.init == "random":
        return (
            "model.init=random cannot be combined with lora: an adapter is saved without its base, and random weights "
            "cannot be loaded again. Set lora=null to train the whole network, or model.init=pretrained."
        )
    if recipe.model.depths is not None:
        return (
            "model.depths cannot be combined with lora: an adapter is saved without its base, which has no such "
            "blocks. Set lora=null to train the whole network, or remove model.depths."
        )
    return None


def _check_bench_is_metric(recipe: Recipe) -> str | None:
    model = recipe.model
    if model.background in ("none", "auto"):
        return None
    if model.encoding is None or model.canonical_focal is not None:
        return (
            f"model.background={model.background} is for metric depth from one camera: set model.encoding and remove "
            "model.canonical_focal, or set model.background=none."
        )
    if recipe.lora is not None and not model.train_head and model.head != "pixels":
        return (
            f"model.background={model.background} starts from a new last layer, and lora saves that layer only with "
            "the head: set model.train_head=true."
        )
    return None


def _check_pixel_head_is_metric(recipe: Recipe) -> str | None:
    asked = "model.head=pixels" if recipe.model.head == "pixels" else "choose" if recipe.choose else None
    if asked is None or recipe.model.encoding is not None:
        return None
    return f"{asked} needs metric depth: set model.encoding=inverse."


def _check_labels_do_not_judge(recipe: Recipe) -> str | None:
    labels = [part.root for part in (recipe.data, *recipe.data.also) if part.format == "pseudo"]
    if not labels or recipe.data.measured is not None:
        return None
    return (
        f"{labels[0]} holds pseudo-labels, and a student is not judged by its teacher's labels: set "
        "data.measured.format and data.measured.root to a set of measured depth for validation and test."
    )


def _check_repeats_train_only(recipe: Recipe) -> str | None:
    data = recipe.data
    if data.measured is not None and data.measured.repeat == 1:
        return None
    repeated = next((part for part in (data, *data.also, data.measured) if part and part.repeat > 1), None)
    if repeated is None:
        return None
    return (
        f"repeat={repeated.repeat} of {repeated.root} would let a capture train and judge: set data.measured to "
        "another set, without a repeat."
    )


def _check_judged_depth_is_read(recipe: Recipe) -> str | None:
    judged, read = recipe.data.max_depth_eval, recipe.data.max_depth
    if judged is None or read is None or judged <= read or recipe.data.measured is not None:
        return None
    return (
        f"data.max_depth_eval={judged:g} is larger than data.max_depth={read:g}, beyond which no depth is read: lower "
        "data.max_depth_eval, or raise data.max_depth."
    )


def _check_bench_decodes_exactly(recipe: Recipe) -> str | None:
    model = recipe.model
    if model.encoding != "inverse_notebook" or model.background == "none":
        return None
    return (
        f"model.encoding=inverse_notebook cannot be combined with model.background={model.background}, which needs an "
        "exact decoding: set model.background=none, or model.encoding=inverse."
    )


def _check_stopping_has_validations(recipe: Recipe) -> str | None:
    if recipe.early_stopping is None:
        return None
    rules, strategy = recipe.data.split, recipe.train.get("eval_strategy")
    held = rules.test or rules.validation or rules.folds or recipe.data.measured
    if held and strategy not in ("no", False) and recipe.train.get("load_best_model_at_end") is not False:
        return None
    return (
        f"early_stopping={recipe.early_stopping} needs validations, and ends with the best checkpoint: hold captures "
        "out (data.split.validation), and do not switch off train.eval_strategy or train.load_best_model_at_end."
    )


def _check_fold_is_in_folds(recipe: Recipe) -> str | None:
    rules = recipe.data.split
    if rules.fold is None:
        return None
    if rules.folds is None:
        return f"data.split.fold={rules.fold} needs data.split.folds: set data.split.folds, or remove data.split.fold."
    if rules.fold >= rules.folds:
        return f"data.split.fold={rules.fold}: folds are counted from 0 to {rules.folds - 1}."
    return None


def _check_weights_can_shard(recipe: Recipe) -> str | None:
    if not recipe.train.get("fsdp"):
        return None
    if recipe.train.get("optim") == "muon":
        return "train.optim=muon needs whole matrices, and train.fsdp cuts them: set train.optim=adamw_torch."
    if recipe.lora is not None:
        return "train.fsdp cannot be combined with lora, whose adapters are small: remove one."
    return None


RULES: list[Rule] = [
    _check_one_input_size,
    _check_encoder_has_size,
    _check_depths_have_name,
    _check_one_depth_limit,
    _check_metric_size_has_limit,
    _check_window_has_size,
    _check_start_trains_head,
    _check_adapter_base_loads_again,
    _check_bench_is_metric,
    _check_pixel_head_is_metric,
    _check_labels_do_not_judge,
    _check_repeats_train_only,
    _check_judged_depth_is_read,
    _check_bench_decodes_exactly,
    _check_stopping_has_validations,
    _check_fold_is_in_folds,
    _check_weights_can_shard,
]
"""Every rule, in the order in which a recipe is checked."""


keep_old_names(__name__, {"broken": "find_broken_rules"})
