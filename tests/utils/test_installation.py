"""Checks of an installation; each fault is planted."""

import shutil
import sys

import pytest
import torch

from utils import installation
from utils.installation import (
    accelerator_findings,
    compiled_op_findings,
    encoding_finding,
    library_findings,
    needed_ops,
    python_finding,
)


def test_this_installation_is_as_pinned():
    """A check that finds faults where there are none is switched off by everyone."""
    assert python_finding().status == "ok"
    assert "FAIL" not in {finding.status for finding in library_findings()}


def test_an_old_python_fails(monkeypatch):
    """A syntax error deep in a library is what an old Python says of itself."""
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    assert python_finding().status == "FAIL"


def test_missing_and_other_libraries_are_named(tmp_path):
    """Another version computes other numbers; a missing one ends the run where it is first imported."""
    file = tmp_path / "requirements.txt"
    file.write_text(
        '# pinned\ntorch==0.1\nno_such_library==1.0\nother_platform==1; python_version < "3"\n???\n'
        "# set-up and checks\nno_such_checker==1\n"
    )
    found = [(finding.status, finding.text.split()[0].strip(":")) for finding in library_findings(file)]
    assert found == [
        ("warn", "torch"),
        ("FAIL", "no_such_library"),
        ("warn", file.name),
        ("warn", "no_such_checker"),
    ]
    assert next(library_findings(tmp_path / "none.txt")).status == "warn"


def test_a_driver_that_torch_cannot_use_fails(monkeypatch):
    """A driver that is too old makes torch fall back to the CPU in silence: days instead of hours."""
    monkeypatch.setattr(installation, "_driver", lambda: "470.1")
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    for name in ("DS_ACCELERATOR", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    found = {finding.subject: finding for finding in accelerator_findings()}
    assert found["accelerator"].text == "none: cpu"
    assert (found["CUDA"].status, "470.1" in found["CUDA"].text) == ("FAIL", True)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")  # somebody's own choice
    assert {finding.subject: finding.status for finding in accelerator_findings()}["CUDA"] == "warn"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert {finding.subject: finding.status for finding in accelerator_findings()}["CUDA"] == "warn"


def test_ops_without_a_compiler_fail(monkeypatch):
    """DeepSpeed finds out that it lacks a compiler when the engine is made, in a traceback of its build."""
    offloading = {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}
    assert list(needed_ops(offloading)) == ["AsyncIOBuilder"]
    assert needed_ops({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}) == {}
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (finding,) = compiled_op_findings(offloading)
    assert (finding.status, "a C++ compiler" in finding.text) == ("FAIL", True)
    assert next(compiled_op_findings({})).status == "ok"


@pytest.mark.parametrize(("encoding", "status"), [("utf-8", "ok"), ("UTF8", "ok"), ("ascii", "warn")])
def test_other_encodings_are_a_warning(monkeypatch, encoding, status):
    """A reply with an emoji ends the chat where the screen is ASCII."""
    monkeypatch.setattr(installation.locale, "getpreferredencoding", lambda _: encoding)
    assert encoding_finding().status == status
