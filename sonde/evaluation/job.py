"""A model under a protocol on one set: captures are read one at a time, one row each, and their mean."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from sonde import files, protocols
from sonde.background import Background
from sonde.checks import Screener, ScreeningDocument, read_screening
from sonde.datasets import DepthSet
from sonde.evaluation.bootstrap import check_level
from sonde.evaluation.chosen import captures_of, chosen_of, format_of, is_own
from sonde.evaluation.evaluation import Evaluation
from sonde.evaluation.heights import bench_of
from sonde.evaluation.ordinal import score_pairs
from sonde.evaluation.predictions import Predictor, Subject, answers_folder, as_asked, as_subject, make_predictor
from sonde.evaluation.rows import Watcher, score_set
from sonde.evaluation.settings import MetricsDocument
from sonde.models import DescribedModel, Placement, refuse_unknown
from sonde.options import takes
from sonde.options.evaluate import EvaluateOptions
from sonde.protocols import Protocol
from sonde.runs import Run, count_train_overlap, read_choice, read_run, usual_protocol


@takes(EvaluateOptions)
def evaluate(
    model: DescribedModel | Predictor | Subject | str | Path,
    protocol: str | None = None,
    data: DepthSet | str | Path | None = None,
    *,
    options: EvaluateOptions,
    ids: Sequence[str] | None = None,
    watch: Watcher | None = None,
    bench: Background | None = None,
) -> Evaluation:
    """Scores of a model under a protocol.

    A run that kept no captures for a test is scored on its own set by the answers that chose it, to captures left out.

    Args:
        model: a loaded model, a Predictor, a name `sonde.load` takes, a folder of predictions by id, or a Subject.
        protocol: a packaged name, see `protocols.list_names`, or a YAML file of your own; by default that of a run's
            own test, or of the layout: zivid-mm for zivid, metric for most.
        data: the captures; by default those of the model's own run.
        options: the options below, as one value.
        ids: the captures to score; by default a run's own test captures, or all where `data` is another set.
        watch: called with every scored capture.
        bench: of a fixed camera, for errors by height above it; by default the one that the model knows.

    Raises:
        ValueError: an unknown name, data that are missing or certainly not sound, or predictions that the protocol
            cannot score.
    """
    check_level(options.ci)
    for folder in (options.out, options.keep):
        if folder is not None:
            files.check_output(folder)
    subject = as_subject(model)
    if isinstance(subject.answers, str | Path) and answers_folder(subject) is None:
        refuse_unknown(subject.answers)  # before the captures are read
    run = None if subject.source is None else read_run(subject.source)
    rules = protocols.load(
        protocol or usual_protocol(run, _layout(run, data, options.format)), options.align, options.max_depth_eval
    )
    with nullcontext() if options.keep is None else files.lock_folder(options.keep):
        if rules.average == "pair":
            scored = _evaluate_pairs(subject, data, ids, rules, options)
        else:
            scored = _evaluate_captures(subject, run, data, ids, rules, options, watch, bench)
    if options.ci is not None:
        scored = scored.record(ci=options.ci)
    if options.out is not None:
        scored.write(options.out)
    return scored


def _layout(run: Run | None, data: DepthSet | str | Path | None, format: str | None) -> str | None:
    """The layout that decides the protocol where nobody names one; None for a run's own."""
    opened = run is None and data is not None and not isinstance(data, str | Path)
    return format or (getattr(data, "layout", "folder") if opened else None)


def _evaluate_pairs(
    subject: Subject,
    data: DepthSet | str | Path | None,
    ids: Sequence[str] | None,
    rules: Protocol,
    options: EvaluateOptions,
) -> Evaluation:
    unfit = (ids, options.listed, options.align, options.format)
    if not isinstance(data, str | Path) or any(word is not None for word in unfit):
        raise ValueError(
            f"{rules.name} scores all of a folder with annotations.json: give data=ROOT, and neither format nor "
            "alignment nor a choice of captures."
        )
    asked = as_asked(subject, options)
    scored = score_pairs(*make_predictor(asked, options), Path(data), rules)
    return scored.record(placement=_find_placement(asked))


def _evaluate_captures(
    subject: Subject,
    run: Run | None,
    data: DepthSet | str | Path | None,
    ids: Sequence[str] | None,
    rules: Protocol,
    options: EvaluateOptions,
    watch: Watcher | None,
    bench: Background | None,
) -> Evaluation:
    captures = captures_of(data, options.format, run, options.listed)
    own = run if run is not None and ids is None and options.listed is None and is_own(captures, run) else None
    choice = read_choice(own.folder) if own is not None and not own.parts["test"] else None
    bench = bench or bench_of(subject.answers)
    if choice is not None:
        ids, subject = choice.ids, as_subject(choice.answers)
    chosen = chosen_of(captures, run, ids, options.listed)
    checks = screen_captures(subject, run, captures, chosen.ids, options.check)
    asked = as_asked(subject, options)
    predictor, name = make_predictor(asked, options, rules.cut)
    scored = score_set(predictor, name, captures, chosen, rules, watch, bench)
    answers = answers_folder(subject, options.keep)
    scored = scored.record(
        known=count_train_overlap(subject.source, captures, chosen.ids),
        encoding=options.encoding,
        format=format_of(options.format, run) if data is None or isinstance(data, str | Path) else None,
        predictions=None if answers is None else below(answers, options.out),
        depth_scale=options.depth_scale,
        checks=checks,
        placement=_find_placement(asked),
    )
    if choice is not None:
        scored = scored.record(captures=choice.words, left_out=choice.record)
    return scored.record(headline=_headline_of(own, scored))


def _find_placement(subject: Subject) -> Placement | None:
    """Where the model of a subject runs; None where nothing runs."""
    return subject.answers.placement if isinstance(subject.answers, DescribedModel) else None


def screen_captures(
    subject: Subject, run: Run | None, captures: DepthSet, ids: Sequence[str], check: bool
) -> ScreeningDocument:
    """What the checks say of captures before they are scored; of a run's own set as a whole, as when it began.

    Raises:
        ValueError: a fault that is certain.
    """
    own = run is not None and is_own(captures, run)
    known = read_screening(run.folder) if run is not None and own else None
    if known is not None and known["checked"]:
        return known
    # Maps on disk and functions of one's own may need no image.
    sees = isinstance(subject.answers, DescribedModel | str | Path) and answers_folder(subject) is None
    return Screener(check).screen(captures, None if own else ids, sees=sees).document()


def _headline_of(run: Run | None, scored: Evaluation) -> str | None:
    """The verdict that a run's report gave on these very scores, beside answers that do not look at the image."""
    path = None if run is None else run.folder / "metrics.json"
    if path is None or not path.is_file():
        return None
    document: MetricsDocument = files.read_json(path, MetricsDocument, "remove it, and the run is scored without it")
    main = scored.main.metric
    same = document["protocol"] == scored.protocol and document["settings"]["ids"] == scored.settings.ids
    alike = math.isclose(document["metrics"].get(main, math.nan), scored.metrics[main], rel_tol=0.01)
    return document.get("headline") if same and alike else None


def below(answers: Path, out: Path | None) -> str:
    """Where predictions lie, relative to the folder that is written where they are below it, so that both can move."""
    return str(answers.relative_to(out) if out is not None and answers.is_relative_to(out) else answers)
