"""`llorch trace PROMPT -o FILE`: runs a prompt and writes a timeline of every operation, which Perfetto opens."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from llorch.bench.roofline import measure_roofline
from llorch.cli import console, trace_server, trace_simulation, trace_summary
from llorch.cli.options import add_field, add_json, add_sampling, load_with_progress, settings_from
from llorch.cli.streams import read_argument
from llorch.cli.trace_reference import prompt_token_ids, reference_of_model, truth_of_trace, verdict_lines
from llorch.convert.written_beside import check_place
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.errors import FieldError, InputError, RequestError
from llorch.formats.printed import printable
from llorch.trace import viewer
from llorch.trace.about import about_run
from llorch.trace.run_timeline import operations_of_run, run_timeline
from llorch.trace.summary import summarise
from llorch.trace.traced_run import TracedRun, record_run

JOB_ID = "trace"
N_TOKENS = 32
FLAGS = ("ctx_size", "batch_size", "threads", "kv_type", "weights", "numa", "pin_threads", "seed")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.description = (
        "Run a prompt and write a timeline of every operation, for Perfetto. The run is repeated: only the "
        "last is recorded, so that loading pages and finding the number of threads are not in the picture."
    )
    parser.add_argument(
        "prompt",
        metavar="PROMPT",
        nargs="?",
        help="the text to continue, or - to read it from stdin; left out with --server, and at will with --reference",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="trace.json",
        help="where the timeline goes; a file that is there is replaced (default: trace.json)",
    )
    parser.add_argument("--open", action="store_true", help="show it: a browser opens ui.perfetto.dev")
    add_field(parser, "n_predict", default=N_TOKENS, help=f"most tokens to generate (default: {N_TOKENS})")
    for name in FLAGS:
        add_field(parser, name)
    add_sampling(parser)
    parser.add_argument(
        "--warm",
        type=int,
        metavar="N",
        default=1,
        help="runs before the recorded one; 0 records the first, page faults and all (default: 1)",
    )
    trace_server.configure(parser)
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="run this reference's prompt, and say of every operation's tensor how far it is from llama.cpp's",
    )
    trace_summary.configure(parser)
    trace_simulation.configure(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Generate, write the file, and say what is in it."""
    settings = settings_from(args)
    if args.server is not None:
        return trace_server.run(args, settings, _output(args.output, settings.model))
    if args.warm < 0:
        raise InputError(f"--warm: expected 0 or more runs, got {args.warm}")
    trace_summary.check(args)
    reference = reference_of_model(args.reference, settings) if args.reference else None
    prompt = _prompt(args, may_lack=reference is not None)
    path = _output(args.output, settings.model)
    params = SamplingParams.from_settings(settings, seed=args.seed)
    loaded = load_with_progress(settings)
    llama = loaded.llama
    try:
        token_ids = prompt_token_ids(reference, prompt, loaded.tokenizer)
        n_ctx = settings.ctx_size or loaded.config.n_ctx_train
        request = Request(JOB_ID, token_ids, params, settings.most_tokens(n_ctx))
        traced = record_run(
            loaded,
            settings,
            request,
            n_warm=args.warm,
            observed=args.observed,
            watches_cores=bool(args.simulate),
        )
        roofline = measure_roofline(llama.n_threads)
        recording = traced.recording
        found = operations_of_run(recording, llama, settings.kv_type)
        about = about_run(loaded, settings.kv_type, recording, found, roofline)
    finally:
        loaded.close()
    arguments, truth = None, None
    if reference:
        labels = llama.labels_of(observed=recording.is_observed)
        slices, truth = truth_of_trace(reference, settings, labels, traced, about)
        arguments = slices.arguments
    timeline = run_timeline(recording, found, llama.n_threads, roofline, arguments)
    simulated = trace_simulation.simulated(args, timeline, recording, llama, settings.kv_type, roofline)
    timeline.write(path, about | trace_simulation.document(simulated))
    shown = trace_summary.show(args, summarise(recording, found, roofline), loaded.name)
    if args.json:
        shown |= trace_simulation.document(simulated) | ({"passed": truth.passed} if truth else {})
        console.print_json({"path": str(path), "n_events": timeline.n_events, **shown})
    else:
        _print(path, timeline.n_events, traced)
        trace_simulation.show(simulated)
        for line in verdict_lines(truth) if truth else ():
            print(line)
    if args.open:
        viewer.show(path)
    return 1 if truth and not truth.passed else 0


def _prompt(args: argparse.Namespace, *, may_lack: bool) -> str | None:
    """The text to continue; None where it may be left out, and is."""
    if args.prompt is None:
        if may_lack:
            return None
        raise InputError("give a PROMPT, or --reference DIR, or --server URL")
    prompt = read_argument(args.prompt, "the prompt")
    if not prompt:
        raise RequestError([FieldError("prompt", "at least one character", "the prompt is empty")])
    return prompt


def _output(text: str, model: str) -> Path:
    """Where the file goes; refused before anything is computed if it could not be written there."""
    if text == "-":
        raise InputError("-o: the timeline goes into a file, - is none")
    path = Path(text)
    check_place(path, (Path(model),) if Path(model).exists() else ())
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{printable(path)}: the folder {printable(path.parent)} cannot be written to")
    return path


def _print(path: Path, n_events: int, traced: TracedRun) -> None:
    recording, usage = traced.recording, traced.end.usage
    print(
        f"{printable(path)}: {n_events} events. {viewer.VIEWER} opens it (Open trace file); it stays in your browser, "
        "nothing is uploaded."
    )
    seconds = (recording.ended_ns - recording.begun_ns) / 1e9
    print(
        f"{usage.prompt_tokens} tokens of prompt and {usage.completion_tokens} of answer in {seconds:.3f} s, "
        f"{len(recording.steps)} steps"
    )
    if recording.n_dropped:
        console.note(
            f"llorch: {recording.n_dropped} later steps are not in it: they would be too many to show"
        )
