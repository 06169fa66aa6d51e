"""The schema of a recipe: every field with its type, its default, and what it is for."""

from typing import Literal

from pydantic import ConfigDict, Field, model_serializer, model_validator

from sonde.recipes.bounds import (
    LARGEST_CHANGE,
    LARGEST_SEED,
    LONGEST_WORD,
    MOST_PIXELS,
    MOST_REPEATS,
    MOST_STEPS,
    Blocks,
    InputSize,
    Limit,
    LoraSettings,
    RenderCount,
    RenderSize,
    Seed,
    TrainSettings,
)
from sonde.strict import Strict


class Section(Strict):
    """A section of a recipe. Defaults are validated too, and numbers are finite unless a field says otherwise."""

    model_config = ConfigDict(validate_default=True, allow_inf_nan=False, str_max_length=LONGEST_WORD)


class ModelRecipe(Section):
    """Which network trains, and what it predicts."""

    name: str | None = None
    """A name that `sonde.load` accepts: sonde-tiny, a hub id, a Hugging Face folder, a run folder, or a .pth or .ckpt
    file. None means sonde-tiny if `size` is None too."""
    size: (
        Literal["small", "base", "large", "giant", "b0", "b1", "b2", "b3", "b4", "b5", "lite0", "lite1", "lite2"] | None
    ) = None
    """The size of a network to build; replaces `name`. small to giant: Depth Anything V2 with its released weights, or
    with random weights under `init: random`. b0 to b5: GLPN with SegFormer's encoder of that size, random weights.
    lite0 to lite2: EfficientNet-Lite with a pyramid decoder, random weights."""
    init: Literal["pretrained", "random"] = "pretrained"
    """`random` keeps the architecture and initialises the weights at random from the seed."""
    depths: list[Blocks] | None = Field(default=None, max_length=16)
    """Attention blocks in each stage of a GLPN `name`, to make it deeper. An added block changes nothing before it has
    trained. None keeps the model's own blocks."""
    encoder: str | None = None
    """Initial encoder weights for a `size` with random weights: a hub id or a local folder. small to giant take DINOv2;
    b0 to b5 take SegFormer (nvidia/mit-b4). lite0 to lite2 take imagenet or a .pth file."""
    freeze_norm: bool = False
    """Keep the stored batch-norm statistics when all weights train. Adapters always keep them."""
    encoder_learning_rate: float | None = Field(default=None, ge=0)
    """Learning rate of the encoder; None uses train.learning_rate. The paper trains the encoder at a tenth of the
    decoder's rate."""
    max_depth: float | None = Field(default=None, gt=0)
    """Largest depth, in metres, that a `size` with random weights can predict. It makes a metric network and needs
    `encoding: null`. None makes a relative network; b0 to b5 cannot be relative and need a value. For a GLPDepth .ckpt:
    the largest depth it was trained for."""
    version: Literal["v1", "v2"] | None = None
    """For a .pth, .pt or .safetensors file of relative Depth Anything whose name does not say it: its version. V1 reads
    the last four layers of its encoder, V2 layers from all of it; the tensors of both have the same names."""
    canonical_focal: float | None = Field(default=None, gt=0)
    """Focal length of a canonical camera (Metric3D), in pixels at the network's input. The network learns and predicts
    depth as this camera would see it, so images of several cameras can be mixed. Every image then needs intrinsics.
    None keeps the model's own value, if it has one."""
    background: str = "none"
    """The bench of a fixed camera; the network learns only the difference from it. farthest or median: computed from
    the training captures. A file: a capture of the empty bench. auto: the captures decide. none: no bench."""
    input_size: InputSize | None = None
    """(height, width) of the network's input. None keeps the aspect ratio, at the model's own short side."""
    input_pixels: int | None = Field(default=None, ge=1024, le=MOST_PIXELS)
    """Approximate number of pixels of the network's input, at the captures' own aspect ratio; replaces `input_size`."""
    encoding: Literal["inverse", "inverse_notebook", "linear", "log"] | None = "inverse"
    """Maps metric depth to the network's [0, 1]. None trains relative disparity. inverse_notebook is only for
    comparison: it trains as inverse does and decodes as the published notebook does, 15 mm too short at 3.9 m."""
    head: Literal["decoder", "pixels"] = "decoder"
    """What predicts depth. decoder: the network's own decoder. pixels: a small head that reads the encoder's features
    at each pixel and is fitted in seconds before the first step."""
    train_head: bool = False
    """Also train the depth head, together with the adapters."""
    affine_start: bool = False
    """Before the first step, fold a least-squares scale and shift into the last layer. Needs `train_head`."""

    @model_validator(mode="after")
    def _choose_one_network(self) -> "ModelRecipe":
        """A network comes from a name or from a size, not from both."""
        if self.name is None and self.size is None:
            self.name = "sonde-tiny"
        elif self.name is not None and self.size is not None:
            raise ValueError(f"name={self.name} and size={self.size} both say which network: set one of them to null")
        return self

    @property
    def origin(self) -> str:
        """The name or the size that identifies the network; the version of a file is part of its name."""
        name = self.name or str(self.size)
        return name if self.version is None else f"{name}?version={self.version}"


class SplitRecipe(Section):
    """Which captures train, which choose the checkpoint, and which are held out for the final score."""

    test: int | float = 0.2
    """Captures held out for the final score: a count, or a share below 1."""
    validation: int | float = 0.1
    """Captures that choose the checkpoint: a count, or a share below 1. With 0 the test set chooses, as in the
    published notebook, and the report says so."""
    seed: Seed = 42
    """Seed of the shuffle before the captures are split."""
    group: str | None = None
    """`folder`, or a column of captures.csv in the root. All captures of a group stay in the same part of the split."""
    folds: int | None = Field(default=None, ge=2)
    """Number of folds for k-fold validation over the captures outside test. `validation` is then ignored."""
    fold: int | None = Field(default=None, ge=0)
    """Which fold validates, counted from 0. None trains every fold in turn."""


class Part(Section):
    """A folder of captures, and the renders that fill it if it is absent."""

    format: str
    """A name in DATASETS."""
    root: str
    """The folder of the set."""
    render: dict[str, RenderCount] = Field(default={}, max_length=1)
    """Renders to make if the folder is absent, as one family -> count; the same as `sonde data synth` makes."""
    render_size: RenderSize = (168, 224)
    """(height, width) of the renders, in pixels."""
    rigs: int = Field(default=0, ge=0)
    """Number of fixed cameras for the renders, in families that have them. 0 uses a new camera for each render."""
    seed: Seed | None = None
    """Seed of the renders. None uses the recipe's seed."""
    only: str | None = None
    """A published list of the captures to use, such as KITTI's Eigen files or NYU's splits.mat. None uses all."""
    reject: str | None = None
    """A file that lists captures to leave out, as written by `sonde data check --reject`."""
    repeat: int = Field(default=1, ge=1, le=MOST_REPEATS)
    """How often an epoch shows each capture, each time augmented in its own way: a small set then counts as much as a
    large one. More than 1 needs `data.measured`."""


class DataRecipe(Part):
    """Where the captures are and how they are read."""

    format: str = "zivid"
    """A name in DATASETS."""
    root: str = "data"
    """The folder of the set, in that format."""
    also: list[Part] = Field(default=[])
    """More sets, concatenated without re-balancing."""
    measured: Part | None = None
    """A set of measured depth for validation and test, divided by `split`. All other captures then train.
    Pseudo-labels need such a set: a student is never judged by its teacher's labels."""
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    """Leave out pseudo-labels below this confidence. None uses all."""
    range: Literal["train", "all"] | tuple[float, float] = "train"
    """Depth range of the encoding: the range of the training captures, that of all captures, or two values in the set's
    unit."""
    min_depth: Limit | None = None
    """Depths at or below this value are not trusted, in the set's unit. None uses the layout's limit (0 for zivid)."""
    max_depth: Limit | None = None
    """Depths at or above this value are not trusted, in the set's unit. None uses the layout's limit (10000 mm for
    zivid)."""
    max_depth_eval: Limit | None = Field(default=None, gt=0)
    """Depths at or above this value do not count in validation, in the set's unit. None counts all depths that
    `max_depth` trusts."""
    fit: Literal["stretch", "crop", "window"] = "stretch"
    """How a capture becomes `model.input_size`. `stretch` stretches it. `crop`, as in the papers, scales it until it
    covers the size, then crops it: at random in training, at the centre in validation. `crop` also resamples depth
    (nearest), so that sets mix. `window` resamples nothing: training sees a random window of that size, validation and
    test see the whole capture."""
    split: SplitRecipe = SplitRecipe()
    """How captures are split into train, validation and test."""
    cache: str | None = "auto"
    """Folder of decoded captures. From the second epoch on, captures are read from it without decoding. `auto` is the
    user's cache folder (~/.cache/sonde on Linux), or SONDE_CACHE if this variable is set. None decodes every time."""
    cache_gb: float | None = Field(default=20.0, gt=0)
    """Largest size of the folder of decoded captures, in GB. The least recently used captures leave first; those of the
    run itself stay, and what does not fit is decoded every time. None: no bound."""


class AugmentRecipe(Section):
    """Which augmentations apply. Each random draw is a function of (seed, epoch, index)."""

    flip: float = Field(default=0.0, ge=0, le=1)
    """Share of samples mirrored left to right."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """Smallest side of a random crop, as a share of the image's side. 1 crops nothing."""
    aspect: float = Field(default=1.0, ge=1, le=LARGEST_CHANGE)
    """Largest factor by which a crop's aspect ratio may differ from the image's, wider or narrower. 1 keeps it."""
    brightness: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of brightness."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of contrast."""
    saturation: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of saturation."""
    hue: float = Field(default=0.0, ge=0, le=0.5)
    """Largest rotation of hue, in full turns."""
    gamma: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of gamma."""
    value: float = Field(default=0.0, ge=0, lt=1)
    """Largest shift, the same for all three colours, as a share of white."""
    noise: float = Field(default=0.0, ge=0, lt=1)
    """Largest standard deviation of added noise, for RGB in [0, 1]."""
    blur: float = Field(default=0.0, ge=0, le=LARGEST_CHANGE)
    """Largest standard deviation of a Gaussian blur, in pixels."""
    colour: float = Field(default=1.0, ge=0, le=1)
    """Share of samples that get each kind of change: brightness, contrast and value; gamma; saturation and hue; noise;
    blur."""
    border: float = Field(default=0.0, ge=0, le=1)
    """Share of samples whose image gets a border of one grey. The depth map does not change."""
    cut_depth: float = Field(default=0.0, ge=0, le=1)
    """Share of samples in which a vertical strip of the image shows depth instead, white at the set's far limit."""
    cutmix: float = Field(default=0.0, ge=0, le=1)
    """Share of images in which a rectangle is replaced by the next image of the batch. Each part uses its own depth."""


class AlignRecipe(Section):
    """Alignment of the encoder's features with those of a frozen encoder (Depth Anything's L_feat)."""

    weight: float = 1.0
    """Weight of the loss `feature_alignment`, which is added to the losses in `loss`."""
    encoder: str | None = None
    """A model whose encoder is the frozen one. None uses the network's own encoder as it is before the first step."""
    tolerance: float = 0.85
    """Tokens whose cosine is above this value do not count."""


class LossRecipe(Section):
    """The weight of a loss and the share of each image it leaves out. A number alone is the weight."""

    weight: float = Field(allow_inf_nan=True)  # `losses.check` refuses it, with the loss's own sentence
    """Factor of the loss in the sum that a step minimises."""
    trim: float | None = Field(default=None, allow_inf_nan=True)
    """Share of each image's pixels, those with the largest errors by this loss, that the loss leaves out. None uses the
    loss's default: no trim, except for ssi_trimmed."""

    @model_validator(mode="before")
    @classmethod
    def _accept_number(cls, given: object) -> object:
        if isinstance(given, dict) and "trim" in given and "weight" not in given:
            raise ValueError("it has a trim and no weight: add a weight, such as weight=1")
        return given if isinstance(given, dict | LossRecipe) else {"weight": given}

    @model_serializer
    def _write_number(self) -> float | dict[str, float]:
        return self.weight if self.trim is None else {"weight": self.weight, "trim": self.trim}


class ChooseRecipe(Section):
    """How settings are chosen on left-out captures, with the features of the frozen encoder."""

    folds: int | None = Field(default=None, ge=2)
    """Number of parts that are left out in turn. None leaves out each of up to eight captures, or a fifth of more."""
    steps: int = Field(default=150, ge=1, le=MOST_STEPS)
    """Number of steps to fit a head of pixels."""


class Recipe(Section):
    """A complete training run."""

    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    # `lora` and `train` go to peft and transformers as keyword arguments, whose types those libraries check.
    lora: LoraSettings | None = None
    """The names of `peft.LoraConfig`. None trains every weight."""
    loss: dict[str, LossRecipe] = Field(default={"masked_l1": 1.0, "edge_gradient": 3.0})  # pyright: ignore[reportAssignmentType]
    """Names in LOSSES, each with its weight, or with {weight: 1.0, trim: 0.1}, which leaves out the largest tenth of
    each image's errors."""
    choose: ChooseRecipe | None = None
    """Leave captures out to choose the bench and to estimate the error, then train on all. None chooses nothing."""
    align_features: AlignRecipe | None = None
    """Feature alignment with a frozen encoder. None uses no alignment."""
    augment: AugmentRecipe = AugmentRecipe()
    train: TrainSettings = Field(default={})
    """The names of `transformers.TrainingArguments`."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights. The average is validated and saved. None: no average."""
    clip_value: Limit | None = Field(default=None, gt=0)
    """Clip every element of the gradient to ± this value, before train.max_grad_norm clips the norm. None: do not."""
    early_stopping: int | None = Field(default=None, ge=1)
    """Stop after this many validations in a row without a better train.metric_for_best_model. None: do not stop."""
    val_freq: int = Field(default=1, ge=1)
    """Epochs between validations, if train.eval_strategy is epoch."""
    save_freq: int = Field(default=1, ge=1)
    """Epochs between checkpoints, if train.save_strategy is epoch. The best checkpoint is always saved."""
    save_model: bool = True
    """Write checkpoints. Without them a stopped run cannot resume, and the run keeps its last weights."""
    quick: list[str] = Field(default=[])
    """Overrides that `--quick` applies: dotted key=value."""
    output_dir: str = "runs/run"
    """The run folder."""
    save_result: bool = False
    """Write the depth maps of every validation to `results/` in the run folder: 16-bit PNG and a colour preview."""
    seed: Seed = Field(default=42, le=LARGEST_SEED)
    """Seed of the weights, the data order and the augmentation."""
