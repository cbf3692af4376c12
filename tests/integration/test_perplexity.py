"""`llorch perplexity` as a command: what it prints, refuses, keeps and leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from llorch.cli.main import main
from llorch.open_model import OpenModel, open_model
from llorch.quality.chunks import Chunks, cut_text
from llorch.quality.evaluate import evaluate
from llorch.quality.logits_file import BaseFile
from llorch.quality.measure import Losses, compare_with_base, measure_text
from tests.support.commands import llorch
from tests.support.perplexity import naive_loss

TEXT = "Once upon a time the world was in the hands of an old man who had no hat. " * 12


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT + "\n")
    return path


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Iterator[OpenModel]:
    with open_model(tiny_model, n_threads=2, n_batch=48) as opened:
        yield opened


@pytest.fixture(scope="module")
def chunks(model: OpenModel) -> Chunks:
    return cut_text(model.tokenizer, TEXT, 32, 6)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """States are kept here; kernels come from memory."""
    monkeypatch.setattr("llorch.kernels.object_cache.cache_root", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_the_figures_are_those_of_each_chunk_alone_in_float64(model: OpenModel, chunks: Chunks) -> None:
    from llorch.conversation import Conversation

    losses = []
    for ids, read in zip(chunks.token_ids, chunks.read(), strict=True):
        logits = Conversation(model.llama, 32).feed(read, all_rows=True)
        losses += [naive_loss(logits[i], int(ids[i + 1])) for i in range(16, 31)]
    found = measure_text(model, chunks, kv_type="f32")
    assert found.n_tokens == len(losses) == 6 * 15
    assert found.perplexity.value == pytest.approx(np.exp(np.mean(losses)), rel=1e-6)
    assert found.running[-1] == pytest.approx(found.perplexity.value, rel=1e-12)


@pytest.mark.parametrize("n_batch", [1, 31, 200])
def test_the_size_of_a_batch_changes_no_bit(
    n_batch: int, model: OpenModel, chunks: Chunks, tiny_model: Path
) -> None:
    with open_model(tiny_model, n_threads=1, n_batch=n_batch) as other:
        assert measure_text(other, chunks).running == measure_text(model, chunks).running


def test_a_large_vocabulary_is_judged_in_pieces(
    model: OpenModel, chunks: Chunks, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_text(model, chunks).running
    monkeypatch.setattr("llorch.quality.evaluate._LOGITS_BYTES", 3 * 4 * model.config.n_vocab)
    monkeypatch.setattr("llorch.quality.log_softmax._PIECE_ELEMENTS", model.config.n_vocab)
    sizes = []

    class Watching(Losses):
        def take(self, first: int, logits: np.ndarray, wanted: np.ndarray) -> None:  # type: ignore[type-arg]
            sizes.append(len(wanted))
            super().take(first, logits, wanted)

    judge = Watching(chunks.n_chunks * chunks.n_counted)
    list(evaluate(model.llama, chunks, judge))
    assert set(sizes) == {1}
    assert measure_text(model, chunks).running == whole


class Interrupt(BaseException):
    """An interrupt in the middle of the work."""


def interrupt_after(n: int) -> Callable[[str, int, int], None]:
    def progress(what: str, done: int, total: int) -> None:
        if done >= n:
            raise Interrupt

    return progress


def test_an_interrupted_measurement_goes_on_where_it_was_and_finds_the_same(
    model: OpenModel, chunks: Chunks, own_cache: Path
) -> None:
    whole = measure_text(model, chunks)
    with pytest.raises(Interrupt):
        measure_text(model, chunks, progress=interrupt_after(3))
    assert len(list((own_cache / "perplexity").iterdir())) == 1
    found = measure_text(model, chunks, is_resumed=True)
    assert found.n_resumed >= 3
    assert found.running == whole.running
    assert found.perplexity == whole.perplexity
    assert list((own_cache / "perplexity").iterdir()) == []


def test_another_measurement_does_not_go_on_with_it(model: OpenModel, chunks: Chunks) -> None:
    with pytest.raises(Interrupt):
        measure_text(model, chunks, progress=interrupt_after(3))
    assert measure_text(model, chunks, kv_type="f32", is_resumed=True).n_resumed == 0
    other = Chunks(chunks.token_ids + np.int32(1), chunks.bos_id)
    assert measure_text(model, other, is_resumed=True).n_resumed == 0
    assert measure_text(model, chunks).n_resumed == 0


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_state_is_not_used(
    damage: bytes | None, model: OpenModel, chunks: Chunks, own_cache: Path
) -> None:
    with pytest.raises(Interrupt):
        measure_text(model, chunks, progress=interrupt_after(3))
    (state,) = (own_cache / "perplexity").iterdir()
    if damage is None:
        np.savez(state, losses=np.zeros(7))
    else:
        state.write_bytes(damage)
    assert measure_text(model, chunks, is_resumed=True).n_resumed == 0


def test_an_interrupted_comparison_goes_on_too(model: OpenModel, chunks: Chunks, tmp_path: Path) -> None:
    path = tmp_path / "base"
    measure_text(model, chunks, base_path=path)
    with BaseFile.open(path, model.config.n_vocab) as base:
        whole = compare_with_base(model, base, chunks)
        with pytest.raises(Interrupt):
            compare_with_base(model, base, chunks, progress=interrupt_after(2))
        found = compare_with_base(model, base, chunks, is_resumed=True)
    assert found.n_resumed >= 2
    assert found.figures == whole.figures


def test_an_interrupted_base_file_leaves_nothing(model: OpenModel, chunks: Chunks, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    with pytest.raises(Interrupt):
        measure_text(model, chunks, base_path=folder / "base", progress=interrupt_after(2))
    assert list(folder.iterdir()) == []


def test_json_and_text_say_the_same_and_a_base_file_is_compared_with(
    tiny_model: Path, text: Path, tmp_path: Path
) -> None:
    common = ("perplexity", "-m", str(tiny_model))
    base = str(tmp_path / "base")
    plain = llorch(*common, "-f", str(text), "-c", "32", "--chunks", "4", "--kl-divergence-base", base)
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.startswith("[1]")
    assert "Final estimate: PPL = " in plain.stdout
    done = llorch(*common, "-f", str(text), "--kl", "--kl-base", base, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {"perplexity", "stderr", "n_tokens"} <= set(document)
    assert f"PPL = {document['perplexity']:.4f} +/- " in plain.stdout
    assert document["n_tokens"] == 4 * 15
    assert document["divergence"]["same_top"]["mean"] == 1
    assert abs(document["divergence"]["divergence"]["mean"]) < 1e-4


def test_the_state_is_kept_as_the_work_goes_on_for_a_process_that_is_killed(
    model: OpenModel, chunks: Chunks, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llorch.quality.resume.INTERVAL_S", 0.0)
    kept = []

    def progress(what: str, done: int, total: int) -> None:
        for path in (own_cache / "perplexity").glob("*.npz"):
            with np.load(path) as state:
                kept.append((done, len(state["losses"]) // chunks.n_counted))

    measure_text(model, chunks, progress=progress)
    assert kept
    assert all(done == known for done, known in kept)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a refused command leaves."""
    assert main(["perplexity", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "internal error" not in line
    return line


def test_what_cannot_be_measured_is_refused_in_one_line(
    tiny_model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, short, latin = tmp_path / "empty", tmp_path / "short", tmp_path / "latin"
    empty.write_bytes(b"\n")
    short.write_text("Once upon a time")
    latin.write_bytes(b"caf\xe9 " * 900)
    common = (capsys, "-m", str(tiny_model))
    assert "is empty" in refusal(*common, "-f", str(empty))
    assert "a context of 512 takes at least 1024" in refusal(*common, "-f", str(short))
    assert "is not valid UTF-8 (byte 3)" in refusal(*common, "-f", str(latin))
    assert "No such file" in refusal(*common, "-f", str(tmp_path / "absent"))
    assert "Is a directory" in refusal(*common, "-f", str(tmp_path))
    assert "no base file" in refusal(*common, "--kl", "--kl-base", str(text))
    assert "it is not replaced" in refusal(*common, "-f", str(text), "--kl-base", str(tmp_path))
    assert "is the file that is read" in refusal(*common, "-f", str(text), "--kl-base", str(text))
    assert "is the file that is read" in refusal(*common, "-f", str(text), "--kl-base", str(tiny_model))


def test_all_contradictions_of_the_flags_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "--kl", "-c", "2", "--chunks", "0")
    assert all(word in line for word in ("--kl needs --kl-base", "-c: expected 3", "--chunks: expected 1"))
    line = refusal(capsys, "--kl-base", "x", "--resume")
    assert "-f FILE is missing" in line
    assert "--resume cannot" in line


def test_a_base_file_of_another_context_or_text_is_refused(
    model: OpenModel, chunks: Chunks, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, other = tmp_path / "base", tmp_path / "other"
    other.write_text(TEXT.upper())
    measure_text(model, chunks, base_path=base)
    common = (capsys, "-m", str(tiny_model), "--kl", "--kl-base", str(base))
    assert "has a context of 32" in refusal(*common, "-c", "64")
    assert "from another text" in refusal(*common, "-f", str(other))


def test_a_context_longer_than_the_model_s_is_measured_with_a_warning(
    tiny_model: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["perplexity", "-m", str(tiny_model), "-f", str(text), "-c", "160", "--chunks", "1"]) == 0
    assert "trained on a context of 128" in capsys.readouterr().err
