"""What a processor says of itself."""

from pathlib import Path

import pytest

from pwc_exp import machine

INTEL = "model name\t: Intel(R) Xeon(R)\nflags\t\t: fpu avx2 {}\n\nmodel name\t: another core\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.mark.parametrize(
    ("text", "bfloat16"),
    [
        (INTEL.format("avx512f avx512_bf16"), True),
        (INTEL.format("avx512f amx_bf16 amx_tile"), True),
        (INTEL.format("avx512f avx512_vnni"), False),
        (ARM.format("i8mm bf16"), True),
        (ARM.format("i8mm"), False),
        ("", False),
        (None, False),
    ],
)
def test_bfloat16_arithmetic_is_found_in_the_flags(
    text: str | None, bfloat16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text, encoding="utf-8")
    monkeypatch.setattr(machine, "CPUINFO", cpuinfo)
    assert machine.has_bfloat16() == bfloat16
    assert machine.has_avx512() == ("avx512f" in (text or ""))
    if text and text.startswith("model name"):
        assert machine.model_name() == "Intel(R) Xeon(R)"


def test_this_processor_is_recognised_without_an_error() -> None:
    assert machine.has_avx512() in (True, False)
    assert machine.has_bfloat16() in (True, False)
