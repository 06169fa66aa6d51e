"""Settings that no machine can take, and words that are none: on the command line and in recipes."""

from case import Case, Make, Words, nothing
from sound import FEW, copied

DRY = ("train", FEW, "data.root=set", "output_dir=out", "data.cache=null", "--dry-run")
BILLION, HUGE = 10**9, 10**20

OVERRIDES: dict[str, tuple[str, str]] = {
    "input-of-a-million": ("model.input_size=[1000000,1000000]", "model.input_size"),
    "input-of-10-to-the-20": (f"model.input_size=[{HUGE},{HUGE}]", "model.input_size"),
    "input-of-a-hundred-megapixels": ("model.input_size=[10000,10000]", "model.input_size"),
    "input-of-sixteen-megapixels": ("model.input_size=[4096,4096]", "model.input_size"),
    "input-negative": ("model.input_size=[-64,-96]", "model.input_size"),
    "input-of-zero": ("model.input_size=[0,0]", "model.input_size"),
    "input-of-one-number": ("model.input_size=[64]", "model.input_size"),
    "input-not-finite": ("model.input_size=[.nan,.inf]", "model.input_size"),
    "pixels-of-10-to-the-20": (f"model.input_pixels={HUGE}", "model.input_pixels"),
    "rank-of-a-billion": ("lora.r=1000000000", "lora.r"),
    "rank-of-1e9": ("lora.r=1e9", "lora.r"),
    "rank-negative": ("lora.r=-4", "lora.r"),
    "rank-of-zero": ("lora.r=0", "lora.r"),
    "alpha-not-finite": ("lora.lora_alpha=.nan", "lora.lora_alpha"),
    "dropout-of-9": ("lora.lora_dropout=9", "lora.lora_dropout"),
    "rank-of-a-pattern-negative": ("lora.rank_pattern={query: -4}", "lora.rank_pattern"),
    "unknown-lora-key": ("lora.rnak=4", "rnak"),
    "modules-of-nothing": ("lora.target_modules=[no_such]", "no_such"),
    "steps-of-10-to-the-20": (f"train.max_steps={HUGE}", "max_steps"),
    "steps-negative": ("train.max_steps=-7", "max_steps"),
    "epochs-not-finite": ("train.num_train_epochs=.inf", "num_train_epochs"),
    "epochs-of-the-word-inf": ("train.num_train_epochs=inf", "num_train_epochs"),
    "trainer-seed-negative": ("train.seed=-1", "train.seed"),
    "power-not-finite": ("train.lr_scheduler_kwargs={power: .nan}", "power"),
    "a-package-that-is-not-there": ("train.deepspeed=nowhere", "train"),
    "batch-of-a-billion": (f"train.per_device_train_batch_size={BILLION}", "batch_size"),
    "batch-of-zero": ("train.per_device_train_batch_size=0", "batch_size"),
    "workers-of-a-million": ("train.dataloader_num_workers=1000000", "workers"),
    "rate-not-finite": ("train.learning_rate=.nan", "learning_rate"),
    "rate-infinite": ("train.learning_rate=.inf", "learning_rate"),
    "rate-negative": ("train.learning_rate=-1", "learning_rate"),
    "rate-is-a-word": ("train.learning_rate=fast", "learning_rate"),
    "warmup-of-10-to-the-20": (f"train.warmup_steps={HUGE}", "warmup_steps"),
    "unknown-train-key": ("train.lerning_rate=1", "lerning_rate"),
    "unknown-schedule": ("train.lr_scheduler_type=magic", "lr_scheduler_type"),
    "test-of-10-to-the-20": (f"data.split.test={HUGE}", "data.split"),
    "test-negative": ("data.split.test=-1", "data.split"),
    "test-not-finite": ("data.split.test=.nan", "data.split"),
    "folds-of-a-billion": (f"data.split.folds={BILLION}", "folds"),
    "depths-of-a-billion": (f"model.depths=[{BILLION},1,1,1]", "model.depths"),
    "end-not-finite": ("model.max_depth=.inf", "max_depth"),
    "end-negative": ("data.max_depth=-1", "max_depth"),
    "end-of-the-set-not-finite": ("data.max_depth=.nan", "max_depth"),
    "renders-of-10-to-the-20": (f"data.render={{bench: {HUGE}}}", "render"),
    "renders-negative": ("data.render={bench: -3}", "render"),
    "renders-of-an-unknown-family": ("data.render={castle: 3}", "castle"),
    "renders-of-a-million-pixels": ("data.render_size=[1000000,1000000]", "render_size"),
    "rigs-of-10-to-the-20": (f"data.rigs={HUGE}", "rigs"),
    "loss-not-finite": ("loss={masked_l1: .nan}", "loss"),
    "loss-infinite": ("loss={masked_l1: .inf}", "loss"),
    "loss-unknown": ("loss={magic: 1}", "magic"),
    "loss-trimmed-whole": ("loss={masked_l1: {weight: 1, trim: 1}}", "trim"),
    "noise-not-finite": ("augment.noise=.nan", "augment.noise"),
    "blur-of-a-billion": (f"augment.blur={BILLION}", "augment.blur"),
    "crop-of-zero": ("augment.crop=0", "augment.crop"),
    "aspect-infinite": ("augment.aspect=.inf", "augment.aspect"),
    "seed-of-10-to-the-20": (f"seed={HUGE}", "eed"),
    "seed-negative": ("seed=-1", "eed"),
    "ema-not-finite": ("ema=.nan", "ema"),
    "clip-infinite": ("clip_value=.inf", "clip_value"),
    "validations-of-10-to-the-20": (f"early_stopping={HUGE}", "early_stopping"),
    "model-is-empty": ("model.name=''", "model"),
    "model-of-control-characters": ("model.name=\x1b]0;x\x07", "model"),
    "model-of-5000-characters": ("model.name=" + "m" * 5000, "mmmm"),
    "model-is-a-list": ("model.name=[a,b]", "model.name"),
    "root-is-nowhere": ("data.root=no/such/set", "no/such/set"),
    "root-is-a-list": ("data.root=[a,b]", "data.root"),
    "root-holds-a-nul": ("data.root='a\\0b'", "data.root"),
    "format-unknown": ("data.format=zivvid", "zivvid"),
    "output-is-a-list": ("output_dir=[a]", "output_dir"),
    "no-equals-sign": ("learning_rate", "learning_rate"),
    "no-key": ("=1", "=1"),
    "key-of-points": ("...=1", "..."),
    "key-of-brackets": ("model[=1", "model"),
    "index-of-10-to-the-9": (f"model.input_size[{BILLION}]=4", "model.input_size"),
    "unclosed-list": ("loss=[", "loss"),
    "unclosed-reference": ("seed=${", "seed"),
    "reference-to-itself": ("seed=${seed}", "seed"),
    "reference-to-the-environment": ("output_dir=${oc.env:HOME}", "output_dir"),
    "reference-that-hides-the-environment": ("output_dir=${oc.${data.fit}:HOME}", "output_dir"),
    "key-of-10000-levels": (".".join("a" * 10_000) + "=1", "a.a.a"),
    "key-named-twice": ("loss={masked_l1: 1, masked_l1: 2}", "masked_l1"),
    "nested-10000-deep": ("loss=" + "[" * 10_000, "loss"),
    "a-megabyte": ("model.name=" + "m" * 100_000, "mmmm"),
    "whole-section-a-number": ("train=5", "train"),
    "unknown-section": ("trainer.max_steps=5", "trainer"),
}
"""Fault -> an override of a sound recipe, and what the refusal must name."""


def _predict(*words: str) -> Words:
    return ("predict", "@photos", "-m", "@network", "-o", "out", *words)


def _synth(*words: str) -> Words:
    return ("data", "synth", "bench", "out", *words)


def _convert(*words: str) -> Words:
    return ("data", "convert", "@pairs/rgb", "@pairs/depth", "out", *words)


def _eval(*words: str) -> Words:
    return ("eval", "@network", "--data", "@bench", *words)


def _label(*words: str) -> Words:
    return ("label", "@network", "@photos", "out", *words)


def _wall(plane: str, region: str = "0,0,9,9", *words: str) -> Words:
    where = ("--image", "@photos/p0.png", "--region", region)
    return ("calibrate", "@network", "--plane", plane, *where, "-o", "out", *words)


COMMANDS: dict[str, tuple[Words, str]] = {
    "synth/size-of-a-million": (_synth("-n", "1", "--size", "1000000,1000000"), "1000000"),
    "synth/size-of-10-to-the-20": (_synth("-n", "1", "--size", f"{HUGE},{HUGE}"), "size"),
    "synth/size-of-one-pixel-by-a-million": (_synth("-n", "1", "--size", "1,10000000"), "10000000"),
    "synth/size-negative": (_synth("-n", "1", "--size", "-4,-4"), "-4"),
    "synth/count-of-10-to-the-20": (_synth("-n", "99999999999999999999", "--size", "48,64"), "-n"),
    "synth/count-of-10-to-the-12": (_synth("-n", "1000000000000", "--size", "48,64"), "-n"),
    "synth/count-negative": (_synth("-n", "-3"), "count"),
    "synth/seed-of-10-to-the-20": (_synth("-n", "1", "--seed", f"{HUGE}", "--size", "48,64"), "seed"),
    "synth/rigs-of-10-to-the-20": (_synth("-n", "1", "--rigs", f"{HUGE}", "--size", "48,64"), "rigs"),
    "synth/layout-unknown": (_synth("-n", "1", "--layout", "castle"), "castle"),
    "label/range-of-100-million": (("label", "@network", "x_{0..99999999}.tar", "out"), "x_"),
    "label/range-of-10-to-the-30": (("label", "@network", f"x_{{0..{10**30}}}.tar", "out"), "x_"),
    "label/range-backwards": (("label", "@network", "x_{5..1}.tar", "out"), "{5..1}"),
    "label/ranges-of-ranges": (("label", "@network", "x" + "{0..999}" * 4 + ".tar", "out"), "{0..999}"),
    "label/no-such-tars": (("label", "@network", "x_{0..3}.tar", "out"), "x_0.tar"),
    "label/shard-of-nothing": (_label("--shard", "0/0"), "0/0"),
    "label/shard-outside": (_label("--shard", "5/3"), "5/3"),
    "label/shard-of-10-to-the-20": (_label("--shard", f"0/{HUGE}"), "hard"),
    "label/shard-is-a-word": (_label("--shard", "first"), "first"),
    "label/batch-of-zero": (_label("--batch-size", "0"), "batch"),
    "label/batch-of-10-to-the-20": (_label("--batch-size", f"{HUGE}"), "batch"),
    "label/size-unknown": (_label("--size", "half"), "half"),
    "label/engine-unknown": (_label("--engine", "steam"), "steam"),
    "label/licence-of-control-characters": (_label("--licence", "\x1b]0;x\x07"), "licence"),
    "label/plan-of-10-to-the-20-days": (_label("--plan", "--days", "nan"), "days"),
    "label/plan-negative": (_label("--plan", "--total", "-1"), "total"),
    "label/end-not-finite": (_label("--max-depth", "nan"), "max"),
    "predict/end-infinite": (_predict("--max-depth", "inf"), "max"),
    "predict/end-negative": (_predict("--max-depth", "-1"), "max"),
    "predict/end-of-1e308": (_predict("--max-depth", "1e308"), "max"),
    "predict/save-unknown": (_predict("--save", "png16,tiff"), "tiff"),
    "predict/save-nothing": (_predict("--save", ","), "save"),
    "predict/camera-of-words": (_predict("--intrinsics", "a,b,c,d"), "a,b,c,d"),
    "predict/camera-not-finite": (_predict("--save", "ply", "--intrinsics", "nan,nan,1,1"), "nan"),
    "predict/camera-negative": (_predict("--save", "ply", "--intrinsics", "-1,-1,1,1"), "-1,-1"),
    "predict/camera-of-1e300": (_predict("--save", "ply", "--intrinsics", "1e300,1e300,1,1"), "1e"),
    "predict/camera-of-5000-characters": (_predict("--intrinsics", "9" * 5000), "999"),
    "predict/model-of-control-characters": (("predict", "@photos", "-m", "\x1b]0;x\x07", "-o", "out"), "]0;x"),
    "predict/model-of-5000-characters": (("predict", "@photos", "-m", "m" * 5000, "-o", "out"), "mmmm"),
    "predict/source-of-5000-characters": (("predict", "p" * 5000, "-m", "@network", "-o", "out"), "pppp"),
    "eval/level-of-a-billion": (_eval("--ci", "1000000000"), "1e+09"),
    "eval/level-not-finite": (_eval("--ci", "nan"), "nan"),
    "eval/level-negative": (_eval("--ci", "-5"), "-5"),
    "eval/end-not-finite": (_eval("--max-depth-eval", "nan"), "nan"),
    "eval/end-infinite": (_eval("--max-depth-eval", "inf"), "inf"),
    "eval/protocol-unknown": (_eval("--protocol", "magic"), "magic"),
    "eval/protocol-above": (_eval("--protocol", "../../x.yaml"), "x.yaml"),
    "eval/align-unknown": (_eval("--align", "magic"), "magic"),
    "eval/encoding-unknown": (_eval("--encoding", "magic"), "magic"),
    "eval/save-unknown": (_eval("--save", "tiff", "-o", "out"), "tiff"),
    "eval/format-unknown": (_eval("--format", "magic"), "magic"),
    "eval/on-nothing": (("eval", "@network", "--on", ""), "FORMAT:ROOT"),
    "eval/on-without-root": (("eval", "@network", "--on", "kitti"), "kitti"),
    "eval/on-of-control-characters": (("eval", "@network", "--on", "\x1b]0;x\x07:a"), "]0;x"),
    "compare/level-of-a-billion": (("compare", "@scored", "@scored", "--ci", "1e9"), "1e+09"),
    "compare/level-not-finite": (("compare", "@scored", "@scored", "--ci", "nan"), "nan"),
    "compare/metric-unknown": (("compare", "@scored", "@scored", "--metric", "magic"), "magic"),
    "calibrate/wall-at-nothing": (_wall("wall,distance=0"), "wall"),
    "calibrate/wall-not-finite": (_wall("wall,distance=nan"), "wall"),
    "calibrate/wall-infinite": (_wall("wall,distance=inf"), "wall"),
    "calibrate/plane-unknown": (_wall("roof,height=2"), "roof"),
    "calibrate/plane-cut-off": (_wall("wall,distance"), "wall"),
    "calibrate/region-outside": (_wall("wall,distance=2", "0,0,1000000000,1000000000"), "1000000000"),
    "calibrate/region-of-10-to-the-20": (_wall("wall,distance=2", f"0,0,{HUGE},{HUGE}"), str(HUGE)),
    "calibrate/region-of-words": (_wall("wall,distance=2", "a,b,c,d"), "a,b,c,d"),
    "calibrate/unit-unknown": (_wall("wall,distance=2", "0,0,9,9", "--unit", "ell"), "ell"),
    "calibrate/kind-unknown": (_wall("wall,distance=2", "0,0,9,9", "--kind", "magic"), "magic"),
    "convert/scale-not-finite": (_convert("--depth-scale", "nan"), "scale"),
    "convert/scale-infinite": (_convert("--depth-scale", "inf"), "scale"),
    "convert/scale-negative": (_convert("--depth-scale", "-1"), "scale"),
    "convert/scale-of-zero": (_convert("--depth-scale", "0"), "scale"),
    "convert/bits-of-a-billion": (_convert("--rotated-bits", "1000000000"), "bits"),
    "convert/camera-not-finite": (_convert("--intrinsics", "nan,nan,1,1"), "nan"),
    "convert/pattern-of-brackets": (_convert("--intrinsics", "[[[[=60,60,28,20"), "[[[["),
    "export/format-unknown": (("export", "@network", "--to", "magic", "-o", "out"), "magic"),
    "export/end-not-finite": (("export", "@network", "-o", "out", "--max-depth", "nan"), "max"),
    "doctor/step-of-10-to-the-20": (("doctor", "@run", f"{HUGE}", "--replay"), "box"),
    "doctor/no-run": (("doctor", "no/such/run"), "no/such/run"),
    "reproduce/unknown": (("reproduce", "magic"), "magic"),
    "download/unknown": (("data", "download", "magic"), "magic"),
    "bench/unknown": (("bench", "--only", "magic"), "magic"),
    "train/recipe-unknown": (("train", "magic", "--dry-run"), "magic"),
    "train/recipe-of-5000-characters": (("train", "r" * 5000, "--dry-run"), "rrrr"),
    "train/resume-nothing": (("train", FEW, "data.root=nowhere", "output_dir=out", "--resume"), ""),
    "train/quick-of-nothing": (("train", FEW, "--quick", "--dry-run"), "quick"),
}
"""Fault -> a command line, and what the refusal must name."""


def cases() -> list[Case]:
    """Every case."""
    bench = copied("bench", "set")
    found = [
        Case(f"settings/recipe/{fault}", bench, (*DRY, override), _right(fault), says)
        for fault, (override, says) in OVERRIDES.items()
    ]
    sound: Make = nothing
    found += [Case(f"settings/{fault}", sound, words, _right(fault), says) for fault, (words, says) in COMMANDS.items()]
    found.append(Case("settings/recipe/sound", bench, (*DRY, "model.input_size=[64,96]"), "read"))
    found.append(
        Case("settings/synth/sound", nothing, _synth("-n", "2", "--size", "48,64"), "read", done=("out/images/*", 2))
    )
    return found


def _right(fault: str):
    return "either" if fault in HARMLESS else "refused"


HARMLESS = {
    "seed-of-10-to-the-20",
    "steps-negative",
    "validations-of-10-to-the-20",
    "warmup-of-10-to-the-20",
    "rigs-of-10-to-the-20",
    "clip-infinite",
    "root-is-nowhere",
    "root-holds-a-nul",
    "batch-of-a-billion",
    "steps-of-10-to-the-20",
    "label/licence-of-control-characters",
    "label/shard-of-10-to-the-20",
    "label/batch-of-10-to-the-20",
    "predict/camera-of-1e300",
    "synth/seed-of-10-to-the-20",
    "synth/rigs-of-10-to-the-20",
    "eval/end-infinite",
    "eval/protocol-above",
    "doctor/step-of-10-to-the-20",
}
"""What may be taken as it is: no machine is harmed by it."""
