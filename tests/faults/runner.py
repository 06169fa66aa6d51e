"""Run a case in a forked child of one warm process, under limits of memory and time, and judge what it answers.

`python runner.py FOLDER` is the warm process: it imports all of sonde, keeps torch on one thread, and reads one request
as JSON from each line of stdin. `Runner` starts it and asks. Children are killed with their whole process group, so
that one that waits for a FIFO forever ends too.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from case import Case, Words
from sound import PLACE

MORE_MEMORY = 3 << 30
"""Bytes of address space that a case may take beyond the warm process."""
MOST_GROWTH = 1 << 30
"""Bytes of memory in use that a case may take: no input of the corpus needs a hundredth of it."""
LARGEST_FILE = 256 << 20
"""Bytes that a case may write into one file."""
LONGEST = 10_000
"""Characters of a sentence: the longest path of Linux has 4,096 bytes."""
SECONDS = 20.0
TO_END = 60.0
"""Seconds that a command has to end after a signal."""
TO_FOLLOW = 5.0
"""Seconds that its workers have to end after it."""
TO_MAKE = 240.0
"""Seconds to make an input, sound ones that it is made from included."""

QUIET = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",  # each thread's arena would take 64 MB of the address space
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",  # as the program sets it before it imports transformers
    "COLUMNS": "200",
    "TERM": "dumb",
}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but the tab and the end of a line."""
PROGRESS = re.compile(r"[a-z]+ \d+/\d+\b")
"""The lines that a bar becomes where stderr is no terminal."""
FOREIGN = re.compile(
    r"\bTraceback\b|Warning\b|\bwarnings?\.warn|libpng|libtiff|TIFF\w*:|HDF5-DIAG|\bcv::|\[ WARN|\[transformers\]|"
    r"LOAD REPORT|Some weights|Loading weights|Exception ignored|resource_tracker"
)
"""Signs of a library's own words."""
BOX = re.compile(r"^[╭╰][─ ]*(Error)?[─ ]*[╮╯]$|^Usage: |^Try ")


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    kind: str
    """ok, refused, traceback, hung, memory, died (by a signal) or unmade (the case itself is wrong)."""
    code: int | None = None
    """The exit code of a command."""
    sentence: str = ""
    """Of a refusal; or the exception of a traceback, with where it was raised."""
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    growth: int = 0
    """Bytes of memory in use at most, beyond the warm process."""
    written: str = ""
    """The text of the JSON documents that a command left below its folder."""
    outputs: int = 0
    """How many files fit the case's `done`."""
    appeared: Words = ()
    """Those of the case's `never` that exist."""
    left: int = 0
    """Processes that the command left behind."""


def judge(case: Case, outcome: Outcome) -> str:
    """What is wrong with the outcome of a case, in words; empty where it is right."""
    if outcome.kind not in ("ok", "refused"):
        return f"{outcome.kind}: {outcome.sentence or outcome.stderr[-300:]}"
    if outcome.appeared:
        return f"wrote {', '.join(outcome.appeared)}, which is not its place"
    if outcome.growth > MOST_GROWTH:
        return f"memory: took {outcome.growth >> 20} MB"
    if isinstance(case.entry, tuple) and (fault := _find_noise(outcome)):
        return fault
    if case.right == "listed":
        return _judge_listed(case, outcome)
    if outcome.kind == "ok":
        return f"accepted: {outcome.stdout[-200:]}" if case.right == "refused" else ""
    if case.right == "read":
        return f"refused: {outcome.sentence}"
    return judge_sentence(outcome.sentence, case.says)


def judge_sentence(sentence: str, says: str) -> str:
    """What is wrong with the sentence of a refusal; empty where nothing is."""
    if not sentence.strip():
        return "refused without a word"
    if len(sentence) > LONGEST:
        return f"its sentence has more than {LONGEST} characters: {sentence[:100]}"
    if CONTROL.search(sentence) or "\n" in sentence:
        return f"its sentence holds a control character: {sentence!r}"
    if FOREIGN.search(sentence):
        return f"its sentence is not its own: {sentence}"
    if says not in sentence:
        return f"its sentence does not name {says!r}: {sentence}"
    return ""


def _judge_listed(case: Case, outcome: Outcome) -> str:
    if outcome.code not in (0, 1):
        return f"the job stopped: {outcome.sentence}"
    if case.done is not None and outcome.outputs < case.done[1]:
        return f"only {outcome.outputs} of {case.done[1]} {case.done[0]} are done"
    if case.says not in outcome.stdout + outcome.stderr + outcome.written:
        return f"{case.says!r} is not listed: {outcome.stdout[-200:]}"
    return ""


def _find_noise(outcome: Outcome) -> str:
    if found := CONTROL.search(outcome.stdout + outcome.stderr):
        return f"a control character {found[0]!r} reaches the terminal"
    foreign = [line for line in outcome.stderr.splitlines() if FOREIGN.search(line)]
    return f"a library speaks on stderr: {foreign[0][:200]}" if foreign else ""


class Runner:
    """The warm process, asked one thing at a time.

    Args:
        folder: for its inputs and their copies.
    """

    def __init__(self, folder: Path) -> None:
        here = Path(__file__).parent
        paths = [os.environ.get("PYTHONPATH", ""), str(here), str(here.parent)]
        env = os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        words = [sys.executable, __file__, str(folder)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def run(self, case: Case, seconds: float = SECONDS) -> Outcome:
        """A case of the corpus."""
        return self._ask({"case": case.name, "seconds": seconds})

    def command(
        self,
        words: Iterable[object],
        folder: Path,
        *,
        kill_after: float | None = None,
        by: signal.Signals = signal.SIGKILL,
    ) -> Outcome:
        """A command in a folder, which is kept; after so many seconds it is killed with all its processes.

        Another signal than SIGKILL goes to the command alone, which then has time to end.
        """
        request = {"words": [str(word) for word in words], "folder": str(folder), "kill_after": kill_after, "by": by}
        return self._ask(request)

    def sound(self, name: str) -> Path:
        """A sound input."""
        return Path(self._ask({"sound": name}).stdout)

    def close(self) -> None:
        """End the warm process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def _ask(self, request: dict[str, object]) -> Outcome:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The warm process ended (exit code {self._process.wait()}) at {request}.")
        fields = json.loads(answer)
        return Outcome(**fields | {"appeared": tuple(fields["appeared"])})


def serve(place: Path) -> None:
    """Answer requests until stdin ends."""
    from corpus import CASES

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print here is no answer
    (place / "sound").mkdir(parents=True, exist_ok=True)
    os.environ[PLACE] = str(place / "sound")
    warm()
    for line in sys.stdin:
        request = json.loads(line)
        if "case" in request:
            outcome = run_case(CASES[request["case"]], place, request["seconds"])
        elif "sound" in request:
            outcome = build_sound(request["sound"])
        else:
            outcome = run_command(
                tuple(request["words"]), Path(request["folder"]), request["kill_after"], request["by"]
            )
        print(json.dumps(asdict(outcome)), file=answers, flush=True)


def warm() -> None:
    """Import everything and load the packaged model once; torch and OpenCV stay on one thread."""
    from importlib import import_module

    import cv2
    import torch

    import sonde

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for module in sonde.MODULES:
        import_module(f"sonde.{module}")
    sonde.load("sonde-tiny")


def build_sound(name: str) -> Outcome:
    """A sound input: its path in `stdout`."""
    from sound import sound

    return Outcome("ok", stdout=str(sound(name)))


def run_case(case: Case, place: Path, seconds: float) -> Outcome:
    """A case in a folder of its own, which is removed afterwards."""
    # Two folders deep, so that an id such as ../../x stays below what is removed.
    root = Path(tempfile.mkdtemp(prefix="case-", dir=place))
    folder = root / "in" / "here"
    folder.mkdir(parents=True)
    try:
        return _fork(case, folder, root, seconds, limited=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def run_command(words: Words, folder: Path, kill_after: float | None, by: int) -> Outcome:
    """A command in a folder that is kept."""
    case = Case("command", lambda: None, words)
    with tempfile.TemporaryDirectory() as root:
        return _fork(case, folder, Path(root), TO_MAKE if kill_after is None else kill_after, limited=False, by=by)


def _fork(case: Case, folder: Path, root: Path, seconds: float, *, limited: bool, by: int = signal.SIGKILL) -> Outcome:
    before = _resident(os.getpid())
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        os.close(ready)
        _live(case, folder, root, told, limited=limited)
    os.close(told)
    try:
        made = _wait_for(ready)
    finally:
        os.close(ready)
    began = time.monotonic()
    status, growth = _await_end(child, began + (seconds if made else 0.0), before, by)
    took = time.monotonic() - began
    # A server of workers sees only after a moment that its parent has ended.
    patience = time.monotonic() + TO_FOLLOW
    while (left := list_group(child)) and time.monotonic() < patience:
        time.sleep(0.05)
    _kill_group(child)  # workers that it left
    outcome = _read(case, folder, root, status, took, growth)
    return replace(outcome, left=left)


def _wait_for(ready: int) -> bool:
    """Whether the input is made in time; a child that ends before closes the pipe."""
    from select import select

    return bool(select([ready], [], [], TO_MAKE)[0])


def _await_end(child: int, deadline: float, before: int, by: int) -> tuple[int | None, int]:
    """The wait status, None for one that is killed here; and how far its memory grew."""
    asked = by == signal.SIGKILL
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return status, max(0, usage.ru_maxrss * 1024 - before)
        if time.monotonic() > deadline and not asked:
            os.kill(child, by)
            asked, deadline = True, time.monotonic() + TO_END
        elif time.monotonic() > deadline:
            _kill_group(child)
            usage = os.wait4(child, 0)[2]
            return None, max(0, usage.ru_maxrss * 1024 - before)
        time.sleep(0.002)


def list_group(child: int) -> int:
    """How many processes of an ended child's group live on."""
    return sum(_read_group(path) == child for path in Path("/proc").glob("[0-9]*"))


def _read_group(process: Path) -> int | None:
    try:
        state, _, group, *_ = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None  # it ended meanwhile
    return None if state == "Z" else int(group)


def _kill_group(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _live(case: Case, folder: Path, root: Path, told: int, *, limited: bool) -> None:
    """The child's whole life: make the input, take the limits, enter, report."""
    os.setsid()
    report: dict[str, object] = {"kind": "unmade"}
    try:
        _renew_threads()
        for stream, name in ((0, os.devnull), (1, root / "stdout"), (2, root / "stderr")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), stream)
        os.chdir(folder)
        _make(case)
        if limited:
            _take_limits()
        os.write(told, b"!")
        report = _enter(case)
    except BaseException as error:  # of `make`: the case is wrong, not the program
        report["sentence"] = "".join(traceback.format_exception(error))[-2000:]
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # one that comes now comes after the end
            signal.signal(number, signal.SIG_IGN)
        _lift_limits()
        sys.stdout.flush()
        sys.stderr.flush()
        (root / "report").write_text(json.dumps(report))
        os._exit(0)


def _renew_threads() -> None:
    """Let torch make its pool of threads again, which a fork does not copy.

    Two threads of transformers' loader that meet the old one at once fail ("Invalid thread pool!").
    """
    import torch

    torch.set_num_threads(1)


def _make(case: Case) -> None:
    """The input, and the sound inputs that its command names; what is printed meanwhile is none of the answer."""
    from sound import resolve

    case.make()
    for word in case.entry if isinstance(case.entry, tuple) else ():
        resolve(word)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.ftruncate(stream.fileno(), 0)


def _take_limits() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MORE_MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _lift_limits() -> None:
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _enter(case: Case) -> dict[str, object]:
    from sound import run_words

    try:
        if isinstance(case.entry, tuple):
            run_words(case.entry)
        else:
            case.entry()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return {"kind": "refused" if code else "ok", "code": code}
    except MemoryError as error:
        _lift_limits()
        return {"kind": "memory", "sentence": _describe(error)}
    except (ValueError, OSError) as error:
        if isinstance(case.entry, tuple):
            return {"kind": "traceback", "sentence": _describe(error)}
        return {"kind": "refused", "sentence": str(error)}
    except BaseException as error:
        return {"kind": "traceback", "sentence": _describe(error)}
    return {"kind": "ok", "code": 0}


def _describe(error: BaseException) -> str:
    """Type and message of an exception, and the last line of sonde's own that it passed."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}sonde{os.sep}" in frame.filename
    ]
    where = f" at {'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


def _read(case: Case, folder: Path, root: Path, status: int | None, took: float, growth: int) -> Outcome:
    """What a child left."""
    stdout, stderr = (_read_text(root / name) for name in ("stdout", "stderr"))
    about = {"stdout": stdout[-20_000:], "stderr": stderr[-20_000:], "seconds": round(took, 2), "growth": growth}
    appeared = [name for name in case.never if os.path.lexists(folder / name)]
    written = _read_written(folder / "out")
    about |= {"appeared": tuple(appeared), "written": written}
    if case.done is not None:
        about["outputs"] = len(list(folder.glob(case.done[0])))
    if status is None:
        return Outcome("hung", sentence=f"more than {took:.0f} s", **about)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return Outcome("memory" if name == "SIGKILL" else "died", sentence=name, **about)
    report = json.loads(_read_text(root / "report") or '{"kind": "died", "sentence": "ended by itself"}')
    if report["kind"] == "refused" and "sentence" not in report:
        report["sentence"] = _find_sentence(f"{stdout}\n{written}", stderr, case.says)
    report["sentence"] = report.get("sentence", "")[: LONGEST + 1]
    return Outcome(**report, **about)


def _read_text(path: Path) -> str:
    return path.read_text(errors="backslashreplace") if path.is_file() else ""


def _read_written(folder: Path) -> str:
    """JSON below an output folder: where jobs list what they passed over."""
    if not folder.is_dir():
        return ""
    found = [path for path in folder.rglob("*.json*") if path.is_file() and path.stat().st_size < 1 << 20]
    return "\n".join(_read_text(path) for path in sorted(found))


def _find_sentence(result: str, stderr: str, says: str) -> str:
    """What a command said when it refused: on stderr, or the line of its result that names the file."""
    lines = [line.strip() for line in stderr.splitlines()]
    own = [line.strip("│ ") for line in lines if line and not PROGRESS.match(line) and not BOX.match(line)]
    boxed = any(BOX.match(line) for line in lines)
    errors = [line.removeprefix("error ") for line in own if boxed or line.startswith("error ")]
    if boxed:
        return " ".join(errors)
    if errors:
        return "\n".join(errors)
    return next((line.strip() for line in result.splitlines() if says and says in line), "")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
