"""The attestation says what the bundle's data say, in in-toto's form, and whatever does not follow is named."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from llorch.errors import ReferenceDumpError
from llorch.validation.attestation import difference, statement_bytes, statement_of

SHA = {letter: letter * 64 for letter in "abcdef"}


def index(kind: str, **more: Any) -> bytes:
    about = {
        "kind": kind,
        "model": {"file": "m.gguf", "sha256": SHA["a"]},
        "environment": {"llorch": "0.1.0", "commit": "c" * 40, "is_modified": False, "kernels": {"cpu": "X"}},
        "package": {
            "version": "0.1.0",
            "dir_hash": SHA["b"],
            "source": "installed",
            "archive_sha256": SHA["d"],
        },
        "passed": True,
    }
    return json.dumps(about | more).encode()


def checkpoints(*verdicts: tuple[str, str, str]) -> dict[str, Any]:
    """A document of one profile: rows of number, way, verdict."""
    return {
        "tolerances": [{"number": "1", "local": {"absolute": 1e-5}}],
        "whole_layer": {"f32": {"nmse": 1e-8}},
        "profiles": [
            {
                "label": "f32",
                "rows": [{"number": n, "title": "t" + n, "way": way, "verdict": v} for n, way, v in verdicts],
                "reference": {
                    "manifest_sha256": SHA["e"],
                    "prompt_token_ids": [1, 689, 815],
                    "identity": {"program": "llama.cpp", "commit": "0c1e570"},
                    "settings": {"n_threads": 1},
                },
            }
        ],
    }


def statement(document: dict[str, Any], **more: Any) -> dict[str, Any]:
    return statement_of(
        index("checkpoint", **more), {"checkpoints.json": json.dumps(document).encode()}.__getitem__
    )


PASSED = checkpoints(("1", "local", "pass"), ("1", "end_to_end", "pass"), ("12", "end_to_end", "pass"))


def test_subjects_are_the_model_and_the_llorch_that_ran() -> None:
    found = statement(PASSED)
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    model, llorch = found["subject"]
    assert model == {"name": "m.gguf", "digest": {"sha256": SHA["a"]}}
    assert llorch["digest"] == {"dirHash": SHA["b"], "sha256": SHA["d"], "gitCommit": "c" * 40}
    assert llorch["annotations"]["source"] == "installed"


@pytest.mark.parametrize(
    ("more", "digest"),
    [
        ({"package": None}, {"gitCommit": "c" * 40}),
        (
            {"environment": {"llorch": "0.1.0", "commit": "c" * 40, "is_modified": True}},
            {"dirHash": SHA["b"], "sha256": SHA["d"]},
        ),
        ({"package": None, "environment": {"llorch": "0.1.0"}}, None),
    ],
    ids=["a bundle of the first form", "a modified checkout", "nothing is known"],
)
def test_llorch_has_only_digests_that_identify_it(
    more: dict[str, Any], digest: dict[str, str] | None
) -> None:
    subjects = statement(PASSED, **more)["subject"][1:]
    assert [subject["digest"] for subject in subjects] == ([digest] if digest else [])


def test_every_checkpoint_of_a_profile_is_one_test_and_its_worse_way_decides() -> None:
    document = checkpoints(
        ("1", "local", "pass"), ("1", "end_to_end", "pass"), ("2", "local", "pass"), ("2", "end_to_end", "fail"),
        ("3", "local", "fail"), ("3", "end_to_end", "skipped"), ("9", "end_to_end", "skipped"),
    )  # fmt: skip
    predicate = statement(document)["predicate"]
    assert predicate["passedTests"] == ["f32: 1 t1"]
    assert predicate["warnedTests"] == ["f32: 9 t9"]
    assert predicate["failedTests"] == ["f32: 2 t2", "f32: 3 t3"]
    assert predicate["result"] == "FAILED"
    assert statement(PASSED)["predicate"]["result"] == "PASSED"
    assert statement(checkpoints(("9", "end_to_end", "skipped")))["predicate"]["result"] == "WARNED"


def test_the_configuration_holds_each_part_with_the_hash_of_just_that() -> None:
    configuration = {part["name"]: part for part in statement(PASSED)["predicate"]["configuration"]}
    assert list(configuration) == [
        "environment", "tolerances", "f32: manifest of the reference", "f32: build of the reference",
        "f32: ids of the prompt",
    ]  # fmt: skip
    assert configuration.pop("f32: manifest of the reference")["digest"] == {"sha256": SHA["e"]}
    contents = {}
    for name, part in configuration.items():
        content = base64.b64decode(part["content"], validate=True)
        assert part["digest"] == {"sha256": hashlib.sha256(content).hexdigest()}
        contents[name] = json.loads(content)
    assert contents["f32: ids of the prompt"] == [1, 689, 815]
    assert contents["tolerances"]["checkpoints"] == PASSED["tolerances"]
    assert contents["f32: build of the reference"]["identity"]["commit"] == "0c1e570"
    assert contents["environment"]["kernels"] == {"cpu": "X"}


def test_loading_checks_are_its_tests_and_speeds_are_not_judged() -> None:
    checks = [{"name": "a", "passed": True}, {"name": "b", "passed": False}]
    content = json.dumps({"checks": checks}).encode()
    loading = statement_of(index("loading"), {"loading.json": content}.__getitem__)["predicate"]
    assert (loading["passedTests"], loading["failedTests"], loading["result"]) == (["a"], ["b"], "FAILED")
    models = [{"file": name, "sha256": SHA["f"]} for name in ("x.gguf", "y.gguf")]
    found = statement_of(index("performance", model=None, models=models), lambda name: b"")
    assert [subject["name"] for subject in found["subject"]] == ["x.gguf", "y.gguf", "llorch 0.1.0"]
    assert found["predicate"]["passedTests"] == ["every median, extreme and ratio follows from the runs"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda d: d.update(_type="other"), "_type"),
        (lambda d: d["subject"][0]["digest"].update(sha256=SHA["b"]), "subject"),
        (lambda d: d["subject"].pop(), "subject"),
        (lambda d: d.update(predicateType="other"), "predicateType"),
        (lambda d: d["predicate"].update(result="WARNED"), "result"),
        (lambda d: d["predicate"]["configuration"].pop(), "configuration"),
        (lambda d: d["predicate"]["passedTests"].append("f32: 13 more"), "passedTests"),
        (lambda d: d["predicate"].update(warnedTests=["x"]), "warnedTests"),
        (lambda d: d["predicate"].pop("failedTests"), "failedTests"),
        (lambda d: d.update(more=1), "all that it says beside"),
        (lambda d: d["predicate"].update(url="https://example.org"), "all that it says beside"),
    ],
)
def test_what_does_not_follow_from_the_bundle_is_named(change: Any, part: str) -> None:
    expected = statement(PASSED)
    changed = json.loads(statement_bytes(expected))
    assert difference(statement_bytes(changed), expected) is None
    change(changed)
    assert part in str(difference(statement_bytes(changed), expected))


def test_data_of_another_shape_are_refused_with_the_file_and_the_key() -> None:
    with pytest.raises(ReferenceDumpError, match=r"checkpoints\.json: profiles is missing"):
        statement_of(index("checkpoint"), lambda name: b'{"tolerances": [], "whole_layer": {}}')
    with pytest.raises(
        ReferenceDumpError, match=r"bundle\.json: model: sha256 is 'x', expected 64 hex digits"
    ):
        statement_of(index("loading", model={"file": "m", "sha256": "x"}), lambda name: b"{}")
