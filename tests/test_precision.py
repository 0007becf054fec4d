import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fdseg import precision

FLAGS = "processor : 0\nflags\t\t: fpu sse2 avx2 {}\n"


@pytest.fixture(autouse=True)
def unforced(monkeypatch):
    monkeypatch.delenv("FDSEG_NATIVE_BF16", raising=False)


def with_processor(monkeypatch, flag):
    monkeypatch.setattr(Path, "read_text", lambda self: FLAGS.format(flag))


@pytest.mark.parametrize(
    ("flag", "chosen", "word"),
    [("avx512_bf16", "bf16-mixed", "has"), ("amx_bf16", "bf16-mixed", "has"),
     ("avx512f", "32-true", "lacks")],
)  # fmt: skip
def test_a_processor_trains_in_bfloat16_where_it_has_it(monkeypatch, flag, chosen, word):
    with_processor(monkeypatch, flag)
    assert precision.best_precision("cpu") == (
        chosen, f"Precision: {chosen} (this processor {word} native bfloat16)"
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_flags_say_what_pytorch_says():
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert precision._processor_has_bfloat16() == native


@pytest.mark.parametrize(("word", "chosen"), [("1", "bf16-mixed"), ("0", "32-true")])
def test_the_processors_answer_can_be_forced(word, chosen, monkeypatch):
    monkeypatch.setenv("FDSEG_NATIVE_BF16", word)
    assert precision.best_precision("cpu")[0] == chosen


@pytest.mark.parametrize(
    ("size", "chosen"),
    [((1, 6, 300), "32-true"), ((7, 72, 92), "32-true"), ((8, 48, 48), "32-true"),
     ((8, 47, 300), "bf16-mixed"), ((300, 200, 1), "bf16-mixed"), ((56, 56, 40), "bf16-mixed")],
)  # fmt: skip
def test_a_grid_for_which_a_processors_bfloat16_is_unsafe_is_computed_in_float32(
    size, chosen, monkeypatch
):
    monkeypatch.setenv("FDSEG_NATIVE_BF16", "1")
    assert precision.best_precision("cpu", size)[0] == chosen


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_itself(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    chosen, why = precision.best_precision("gpu")
    assert chosen == ("bf16-mixed" if native else "32-true")
    assert "Tesla T4" in why


@pytest.mark.skipif(precision._may_have_gpu(), reason="a GPU may be here")
def test_without_a_gpu_pytorch_is_not_loaded():
    code = (
        "import sys; from fdseg.precision import best_precision; best_precision('auto');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
