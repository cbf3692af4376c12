"""What a proof bundle does not prove: the last paragraph of its page."""

from __future__ import annotations

_OF_KIND = {
    "checkpoint": (
        "The values were compared for this prompt, these decode steps, this model file, this build of the reference "
        "and this CPU's kernels; other prompts, longer contexts, batches of requests and the kernels of other CPUs "
        "were not. Agreement within the tolerances says that llorch computes what the reference computes, not that "
        "the reference is right, nor that the model's answers are good. Of the reference's run there is only what its "
        "manifest says; whoever doubts it makes the reference again."
    ),
    "loading": (
        "That the file is whole, consistent and loadable does not say that its weights are those that its name "
        "promises, nor that llorch computes with them correctly (a `checkpoint` bundle is about that), nor that the "
        "model's answers are good. The damaged headers are some kinds of damage, not all. Times were taken once, here."
    ),
    "performance": (
        "The figures follow from the recorded runs; that the runs took place as recorded is the word of whoever made "
        "the bundle. They hold for this machine, these builds, these settings, these models and these tests: not for "
        "other CPUs, thread counts, context lengths or newer versions, and they say nothing of the quality of the "
        "answers. No engine was tuned beyond the arguments shown, and other work on the machine, or on its host, may "
        "have slowed any run."
    ),
}
_SEALS = (
    "The sums (`sha256sum -c SHA256SUMS`) show that the files are the ones that were written, not who wrote them. A "
    "signature shows that the holder of a key signed them; whose key it is you must know from elsewhere, and when it "
    "was signed nothing proves. An unsigned bundle can be forged as a whole by anyone who recomputes its hashes."
)


def not_proven(kind: str) -> str:
    """The section about a kind of bundle, as Markdown."""
    return f"## What this does not prove\n\n{_OF_KIND[kind]}\n\n{_SEALS}\n"
