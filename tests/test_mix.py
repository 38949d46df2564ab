"""A mix of data sets: each part is its data set's own configuration, checked as that is."""

from collections.abc import Callable
from typing import Any

import pytest

from pwc_exp.config.data import FlyingChairsConfig, RenderPass, SintelConfig, SyntheticConfig
from pwc_exp.config.schema import load, to_yaml
from pwc_exp.errors import ConfigError

Configure = Callable[..., Any]
SINTEL = "{name:sintel,root:a,render_pass:both,weight:2}"
TWO = f"data.parts=[{SINTEL},{{name:flyingchairs,root:/b,weight:1}}]"


def mixed(configure: Configure, *parts: str) -> Any:
    return configure("train", "data=mix", "data.root=/sets", *parts).data


def test_each_part_is_the_configuration_of_its_data_set_within_the_root(
    configure: Configure,
) -> None:
    mix = mixed(configure, TWO, "data.val_share=0.2", "data.on_bad=skip", "data.crop=[64,128]")
    sintel, chairs = mix.part_configs()
    assert isinstance(sintel, SintelConfig)
    assert isinstance(chairs, FlyingChairsConfig)
    assert (sintel.root, chairs.root) == ("/sets/a", "/b")
    assert sintel.render_pass is RenderPass.both
    for part in (sintel, chairs):
        assert (part.val_share, part.on_bad, part.crop) == (0.2, mix.on_bad, [64, 128])
    assert mix.weights == [2, 1]


def test_generated_scenes_can_be_a_part(configure: Configure) -> None:
    (scenes,) = mixed(configure, "data.parts=[{name:synthetic,layers:1}]").part_configs()
    assert isinstance(scenes, SyntheticConfig)
    assert scenes.layers == 1


def test_without_weights_there_are_none(configure: Configure) -> None:
    assert mixed(configure, "data.parts=[{name:sintel,root:a}]").weights is None


def test_a_mix_that_was_saved_is_read_back(configure: Configure, tmp_path: Any) -> None:
    config = configure("train", "data=mix", "data.root=/sets", TWO)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ("[]", "data.parts must name at least one data set"),
        ("[sintel]", r"data.parts\[0\].name must be one of synthetic, flyingchairs, .*sintel"),
        ("[{name:sintl,root:a}]", r"data.parts\[0\].name must be one of"),
        ("[{name:mix,root:a}]", r"data.parts\[0\].name must be one of"),
        ("[{name:sintel}]", r"data.parts\[0\]: data.root is needed for sintel"),
        ("[{name:sintel,root:a},{name:kitti,root:b,tuth:occ}]", r"data.parts\[1\]: .*tuth"),
        ("[{name:kitti,root:a,truth:both}]", r"data.parts\[0\]: .*both.*noc, occ"),
        ("[{name:sintel,root:a,crop:[64,64]}]", r"data.parts\[0\].crop must be stated for the"),
        ("[{name:sintel,root:a,weight:1},{name:kitti,root:b}]", "data.parts need a positive"),
        ("[{name:sintel,root:a,weight:0}]", "data.parts need a positive weight"),
        ("[{name:sintel,root:a,weight:much}]", "data.parts need a positive weight"),
        ("[{name:sintel,root:a,label:a/b}]", "data.parts need labels .*a/b"),
        ("[{name:folder,root:a}]", r"data.parts\[0\]: .*frame1"),
    ],
)
def test_a_part_that_cannot_work_is_told_by_its_place(
    parts: str, line: str, configure: Configure
) -> None:
    with pytest.raises(ConfigError, match=line):
        mixed(configure, f"data.parts={parts}")
