"""The schema of a recipe: every field with its type, its default, and what it is for."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator


class Strict(BaseModel):
    """Unknown keys are errors; every field's docstring is its help."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_default=True)


class ModelRecipe(Strict):
    """Which network, and what it regresses."""

    name: str | None = None
    """A name `sonde.load` takes: sonde-tiny, a hub id, a Hugging Face folder, a run folder, or a .pth or .ckpt file.
    None takes sonde-tiny, where there is no `size`."""
    size: (
        Literal["small", "base", "large", "giant", "b0", "b1", "b2", "b3", "b4", "b5", "lite0", "lite1", "lite2"] | None
    ) = None
    """Depth Anything V2 of this size in place of `name`: the released weights, or with `init: random` new ones. b0 to
    b5: GLPN with SegFormer's encoder of that size, drawn anew. lite0 to lite2: EfficientNet-Lite under a pyramid
    decoder, drawn anew."""
    init: Literal["pretrained", "random"] = "pretrained"
    """`random` keeps the architecture and draws the weights anew from the seed."""
    depths: list[int] | None = None
    """More attention blocks in each stage of a GLPN `name`, which add nothing before they have learnt; None keeps
    those it has."""
    encoder: str | None = None
    """Weights that the encoder of a `size` drawn anew starts from, DINOv2's or for b0 to b5 SegFormer's
    (nvidia/mit-b4): a hub id or a local folder. For lite0 to lite2: imagenet, or a .pth file."""
    freeze_norm: bool = False
    """Keep the stored statistics of batch norm while every weight trains; adapters always keep them."""
    encoder_learning_rate: float | None = None
    """The encoder's, where it is not train.learning_rate: the paper trains it at a tenth of the decoder's."""
    max_depth: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Metres at which the head of a `size` drawn anew ends, with `encoding: null`: a metric network; None makes a
    relative one, and b0 to b5 need it. Of a GLPDepth .ckpt: what it was trained for."""
    canonical_focal: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Learn and answer depth as a camera of this focal length would see it, in pixels at the network's input, so that
    cameras mix (Metric3D); every image then needs intrinsics. None keeps the model's own, where it has one."""
    background: str = "none"
    """The bench of a fixed camera: the network learns only what differs from it. farthest or median makes it from the
    training captures; a file is a capture of the empty bench; auto asks the captures; none uses no bench."""
    input_size: tuple[int, int] | None = None
    """(height, width) the network sees; None keeps the aspect at the model's own short side."""
    input_pixels: int | None = Field(default=None, ge=1024)
    """About how many pixels the network sees, in the captures' own aspect, in place of `input_size`."""
    encoding: Literal["inverse", "inverse_notebook", "linear", "log"] | None = "inverse"
    """How metric depth becomes the network's [0, 1]; None trains relative disparity. inverse_notebook is for comparison
    alone: taught as inverse is, decoded as the published notebook does, 15 mm short at 3.9 m."""
    head: Literal["decoder", "pixels"] = "decoder"
    """What answers: the network's own decoder, or a small head that reads the encoder's features pixel by pixel and is
    fitted to them in seconds before the first step."""
    train_head: bool = False
    """Train the depth head too, beside the adapters."""
    affine_start: bool = False
    """Fold a least-squares scale and shift into the last layer before the first step; needs `train_head`."""

    @model_validator(mode="after")
    def _one_network(self) -> "ModelRecipe":
        """A network has one origin."""
        if self.name is None and self.size is None:
            self.name = "sonde-tiny"
        elif self.name is not None and self.size is not None:
            raise ValueError(f"name={self.name} and size={self.size} both say which network: give one, the other null")
        return self

    @property
    def origin(self) -> str:
        """The name or the size: which network."""
        return self.name or str(self.size)


class SplitRecipe(Strict):
    """Which captures train, choose the checkpoint, and are kept for the final score."""

    test: int | float = 0.2
    """Captures held out for the score: a count, or a share below 1."""
    validation: int | float = 0.1
    """Captures that choose the checkpoint: a count, or a share below 1; 0 lets the test set choose, as the
    published notebook did, and the report says so."""
    seed: int = 42
    """Shuffles the captures before they are cut."""
    group: str | None = None
    """`folder`, or a column of captures.csv in the root: captures of one group stay on one side."""
    folds: int | None = Field(default=None, ge=2)
    """k-fold over what is not test; `validation` is then ignored."""
    fold: int | None = Field(default=None, ge=0)
    """Which fold validates, from 0; None trains every fold in turn."""


class Part(Strict):
    """A folder of captures, and what renders it where it is absent."""

    format: str
    """A name in DATASETS."""
    root: str
    """Its folder."""
    render: dict[str, int] = Field(default={}, max_length=1)
    """Renders to make when the folder is absent: one family -> count, as `sonde data synth` would."""
    render_size: tuple[int, int] = (168, 224)
    """(height, width) of the renders, pixels."""
    rigs: int = Field(default=0, ge=0)
    """Fixed cameras that took the renders, for families that have them; 0 takes each by a new one."""
    seed: int | None = None
    """Of the renders, where it is not the recipe's."""
    only: str | None = None
    """A published list of the captures to take, such as KITTI's Eigen files or NYU's splits.mat; None takes all."""
    reject: str | None = None
    """A file of captures to leave out, as `sonde data check --reject` writes it."""


class DataRecipe(Part):
    """Where the captures lie and how they are read."""

    format: str = "zivid"
    """A name in DATASETS."""
    root: str = "data"
    """The folder the format describes."""
    also: list[Part] = []
    """More folders, concatenated without re-balancing."""
    measured: Part | None = None
    """A set of measured depth for validation and test, cut by `split`; everything else then trains. Pseudo-labels
    need one: a student is never judged by its teacher's labels."""
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    """Pseudo-labels below this confidence are left out; None takes all."""
    range: Literal["train", "all"] | tuple[float, float] = "train"
    """Depth range of the encoding: of the training captures, of all captures, or given in the set's unit."""
    min_depth: float | None = None
    """Depths at or below are not trusted, in the set's unit; None takes the layout's limit (0 for zivid)."""
    max_depth: float | None = None
    """Depths at or above are not trusted, in the set's unit; None takes the layout's limit (10000 mm for zivid)."""
    max_depth_eval: float | None = Field(default=None, gt=0)
    """Depths at or above do not count in validation, in the set's unit; None counts all that `max_depth` trusts."""
    fit: Literal["stretch", "crop", "window"] = "stretch"
    """How a capture becomes `model.input_size`: stretched; or, as the papers do, scaled until it covers it and cropped,
    at random in training, centrally in validation. `crop` also resamples depth (nearest), so that sets mix. `window`
    resamples nothing: training sees a window of that size at random, validation and test see the whole capture."""
    split: SplitRecipe = SplitRecipe()
    """Train, validation and test."""
    cache: str | None = ".cache/sonde"
    """Folder of decoded captures, read back without decoding from the second epoch on; None decodes every time."""


class AugmentRecipe(Strict):
    """What is varied; each draw is a function of (seed, epoch, index)."""

    flip: float = Field(default=0.0, ge=0, le=1)
    """Share of samples mirrored left to right."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """Smallest side of a random crop, as a share of the image's; 1 crops nothing."""
    aspect: float = Field(default=1.0, ge=1)
    """How many times wider or narrower than the image a crop may be; 1 keeps the image's aspect."""
    brightness: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of brightness."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of contrast."""
    saturation: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of saturation."""
    hue: float = Field(default=0.0, ge=0, le=0.5)
    """Largest turn of hue, in turns."""
    gamma: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of gamma."""
    value: float = Field(default=0.0, ge=0, lt=1)
    """Largest shift of all three colours alike, as a share of white."""
    noise: float = Field(default=0.0, ge=0, lt=1)
    """Largest standard deviation of added noise, RGB in [0, 1]."""
    blur: float = Field(default=0.0, ge=0)
    """Largest standard deviation of a Gaussian blur, in pixels."""
    colour: float = Field(default=1.0, ge=0, le=1)
    """Share of samples with each of: brightness, contrast and value; gamma; saturation and hue; noise; blur."""
    border: float = Field(default=0.0, ge=0, le=1)
    """Share of samples whose image has a border of one grey; depth goes on behind it."""
    cut_depth: float = Field(default=0.0, ge=0, le=1)
    """Share of samples in which a vertical strip of the image shows its depth, white at the set's farther limit."""
    cutmix: float = Field(default=0.0, ge=0, le=1)
    """Share of images of which a rectangle is the batch's next image, each part judged by its own depth."""


class AlignRecipe(Strict):
    """Keeping the encoder's features near those of a frozen one (Depth Anything's L_feat)."""

    weight: float = 1.0
    """Of the loss `feature_alignment`, beside those of `loss`."""
    encoder: str | None = None
    """A model whose encoder is the frozen one; None takes the network's own as it is before the first step."""
    tolerance: float = 0.85
    """Tokens whose cosine is above are left alone."""


class LossRecipe(Strict):
    """What a loss counts, and how much of each image it leaves out; a bare number is the weight alone."""

    weight: float
    """What the loss is multiplied by in the sum that a step minimises."""
    trim: float | None = None
    """Share of each image's largest errors, by this loss, that it leaves out; None is the loss's own: none, but for
    ssi_trimmed."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, given: Any) -> Any:
        if isinstance(given, dict) and "trim" in given and "weight" not in given:
            raise ValueError("it has a trim and no weight: say how much it counts, such as weight=1")
        return given if isinstance(given, dict | LossRecipe) else {"weight": given}

    @model_serializer
    def _as_written(self) -> float | dict[str, float]:
        return self.weight if self.trim is None else {"weight": self.weight, "trim": self.trim}


class ChooseRecipe(Strict):
    """Choosing by captures left out, on the features of the frozen encoder."""

    folds: int | None = Field(default=None, ge=2)
    """Parts that are left out in turn; None leaves out each of up to eight captures, and a fifth of more."""
    steps: int = Field(default=150, ge=1)
    """Steps in which a head of pixels is fitted."""


class Recipe(Strict):
    """A whole training run."""

    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    lora: dict[str, Any] | None = None
    """`peft.LoraConfig`'s names; None trains every weight."""
    loss: dict[str, LossRecipe] = {"masked_l1": 1.0, "edge_gradient": 3.0}  # pyright: ignore[reportAssignmentType]
    """LOSSES by name, each with its weight, or as {weight: 1.0, trim: 0.1}: without the largest tenth of each image's
    errors."""
    choose: ChooseRecipe | None = None
    """Leave captures out to choose the bench and to estimate the error, then train on all; None chooses nothing."""
    align_features: AlignRecipe | None = None
    """Feature alignment with a frozen encoder; None leaves it out."""
    augment: AugmentRecipe = AugmentRecipe()
    train: dict[str, Any] = {}
    """`transformers.TrainingArguments`' names."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is validated and kept; None: none."""
    clip_value: float | None = Field(default=None, gt=0)
    """Holds every element of the gradient within ± this, before train.max_grad_norm clips by norm; None: not."""
    early_stopping: int | None = Field(default=None, ge=1)
    """Stop after so many validations in a row without a better train.metric_for_best_model; None: train to the end."""
    val_freq: int = Field(default=1, ge=1)
    """Epochs from one validation to the next, where train.eval_strategy is epoch."""
    save_freq: int = Field(default=1, ge=1)
    """Epochs from one checkpoint to the next, where train.save_strategy is epoch; the best is always saved."""
    save_model: bool = True
    """Write checkpoints; without them the run cannot go on after a stop, and its last weights are what it keeps."""
    quick: list[str] = []
    """What `--quick` changes: key=value, dotted."""
    output_dir: str = "runs/run"
    """The run folder."""
    save_result: bool = False
    """Write the depth maps of every validation below `results/` of the run: 16-bit PNG, and a preview in colour."""
    seed: int = 42
    """Seeds the weights, the data order and the augmentation."""
