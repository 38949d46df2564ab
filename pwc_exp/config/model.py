"""A PWC-Net: its size and conventions; and which trained one a command uses."""

from enum import StrEnum
from typing import ClassVar, NamedTuple

from pwc_exp.config.fields import Settings, positive

# Levels whose flow the context network refines.
ContextLevels = StrEnum("ContextLevels", ["output", "all", "none"])
# What warping reads outside of the second frame.
WarpBorder = StrEnum("WarpBorder", ["edge", "zero"])
# How convolutions of stride 2 are padded.
StridePadding = StrEnum("StridePadding", ["same", "symmetric"])
# Which points of two grids coincide when a flow is enlarged.
Alignment = StrEnum("Alignment", ["corner", "center"])
# Units of the flow inside the network: pixels of its level, or full-resolution pixels / 20.
LevelUnits = StrEnum("LevelUnits", ["grid", "scaled"])


class ModelConfig(Settings):
    """A PWC-Net."""

    prefix: ClassVar[str] = "model."

    name: str  # of the variant, in names of runs and tables
    levels: int = positive(6)  # depth of the pyramid: the coarsest level has stride 2**levels
    output_level: int = positive(2)  # finest level that estimates flow: stride 2**output_level
    search_range: int = positive(4)  # cost-volume radius, in pixels of its level
    feature_channels: list[int] = positive([16, 32, 64, 96, 128, 196])  # of levels 1 to `levels`
    pyramid_convolutions: int = 3  # at each of these levels: 3, or 2 as in NVlabs' PWCDCNet_old
    estimator_channels: list[int] = positive([128, 128, 96, 64, 32])  # layers of the flow estimator
    context_channels: list[int] = positive([128, 128, 128, 96, 64, 32])  # of the context network
    context_dilations: list[int] = positive([1, 2, 4, 8, 16, 1])  # one for each context_channels
    dense: bool  # each estimator layer also sees what the layers before it saw
    context: ContextLevels  # levels that the context network refines
    warp_border: WarpBorder  # what warping reads outside of the second frame
    stride_padding: StridePadding  # padding of the convolutions of stride 2
    upsample_alignment: Alignment  # of the output level's flow enlarged to full resolution
    level_units: LevelUnits  # units of the flow inside the network
    center_frames: bool = False  # frames in [-1, 1], so that coarse levels learn early
    normalize_features: bool = False  # before comparing frames, so that learning starts early

    def __post_init__(self) -> None:
        super().__post_init__()
        convolutions, levels = self.pyramid_convolutions, self.levels
        self.require(convolutions in (2, 3), "pyramid_convolutions", "must be 2 or 3")
        requirement = f"must be at most model.levels ({levels})"
        self.require(self.output_level <= levels, "output_level", requirement)
        for name, length, of in (
            ("feature_channels", levels, "levels"),
            ("context_dilations", len(self.context_channels), "context_channels"),
        ):
            requirement = f"needs one number for each of the {length} {of}"
            self.require(len(getattr(self, name)) == length, name, requirement)


class NetworkChoice(NamedTuple):
    """Where a network comes from; both None: the weights that ship."""

    run: str | None
    weights: str | None


class NetworkConfig(Settings):
    """A trained network: its weights and, where these do not say it, its model."""

    model: ModelConfig | None = None  # null: the one that the weights are for
    run: str | None = None  # folder of a training run: its model and best checkpoint
    weights: str | None = None  # name of shipped weights, a run, a checkpoint or a file

    @property
    def uses_network(self) -> bool:
        """Whether the command needs a network at all."""
        return True

    @property
    def networks(self) -> list[NetworkChoice]:
        """The networks that the command needs."""
        return [NetworkChoice(self.run, self.weights)] if self.uses_network else []
