"""Where the patches of an archive lie, how they are called and which split they belong to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, Optional

import numpy as np

from tfrecords_tools.errors import UsageError

from ..bigearthnet.bands import PATCH_METRES

Layout = Literal["v1", "v2"]
Veil = Literal["snow", "cloud"]

SPLITS = ("train", "val", "test")
_SPLIT_ENDS = (0.6, 0.8)
_PATCHES_ACROSS = 91  # whole patches along an edge of a Sentinel-2 tile of 109,800 m
_FEWEST_A_TILE = 5  # so that each split gets one in every tile
_ONE_VEILED_IN = 40  # by snow, and as many by cloud; in the archive it is one in 10 and one in 64


class Tile(NamedTuple):
    """A Sentinel-2 acquisition with its Sentinel-1 pair, of BigEarthNet: names, grid and country are real."""

    v1: str
    v2: str
    s1: str
    name: str
    zone: int
    left: int
    top: int
    country: str


# The third has the archive's odd time of five digits in version 1.
TILES = (
    Tile("S2A_MSIL2A_20170613T101031", "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP",
         "S1A_IW_GRDH_1SDV_20170613T165043", "33UUP", 33, 300_000, 5_400_000, "Austria"),
    Tile("S2A_MSIL2A_20170617T113321", "S2A_MSIL2A_20170617T113321_N9999_R080_T29UPU",
         "S1A_IW_GRDH_1SDV_20170617T064724", "29UPU", 29, 600_000, 5_900_040, "Ireland"),
    Tile("S2B_MSIL2A_20170924T93020", "S2B_MSIL2A_20170924T093019_N9999_R136_T35VPK",
         "S1A_IW_GRDH_1SDV_20170925T043256", "35VPK", 35, 600_000, 7_000_020, "Finland"),
    Tile("S2A_MSIL2A_20171221T112501", "S2A_MSIL2A_20171221T112501_N9999_R037_T29SND",
         "S1B_IW_GRDH_1SDV_20171222T063355", "29SND", 29, 499_980, 4_400_040, "Portugal"),
)  # fmt: skip


class Place(NamedTuple):
    """One patch to be: its tile, its column and row there, its split, and what hides the ground."""

    tile: Tile
    column: int
    row: int
    split: str
    veil: Optional[Veil]

    @property
    def left(self) -> int:
        """Easting of the left edge in metres."""
        return self.tile.left + PATCH_METRES * self.column

    @property
    def top(self) -> int:
        """Northing of the upper edge in metres."""
        return self.tile.top - PATCH_METRES * self.row

    @property
    def v1_name(self) -> str:
        """Name in version 1: indices unpadded."""
        return f"{self.tile.v1}_{self.column}_{self.row}"

    @property
    def v2_name(self) -> str:
        """Name in version 2: indices of two digits."""
        return f"{self.tile.v2}_{self.column:02d}_{self.row:02d}"

    @property
    def s1_name(self) -> str:
        """Name of the Sentinel-1 pair, the same in both versions: indices unpadded."""
        return f"{self.tile.s1}_{self.tile.name}_{self.column}_{self.row}"

    def name(self, layout: Layout) -> str:
        """Returns the name of the Sentinel-2 patch."""
        return self.v1_name if layout == "v1" else self.v2_name


def plan(patches: int, layout: Layout, seed: int, veils: bool = True) -> list[Place]:
    """Lays out an archive: a square window of neighbouring patches in each tile.

    60 % train, 20 % validation, 20 % test; as in the archive, version 1 mixes them among neighbours and
    version 2 keeps them apart (here in stripes of columns).

    Args:
        patches: how many.
        layout: the version.
        seed: moves the windows and draws version 1's splits.
        veils: whether a few patches get snow or cloud.

    Raises:
        UsageError: more patches than the tiles have room for.
    """
    room = len(TILES) * _PATCHES_ACROSS**2
    if not 1 <= patches <= room:
        raise UsageError(f"--patches must be 1 to {room:,}, not {patches}")
    tiles = TILES[: max(1, min(len(TILES), patches // _FEWEST_A_TILE))]
    # Apart, so that both layouts show the same patches.
    rng, split_rng = np.random.default_rng((seed, 1)), np.random.default_rng((seed, 2))
    hidden = _veils(patches, rng) if veils else {}
    places: list[Place] = []
    for index, tile in enumerate(tiles):
        count = (index + 1) * patches // len(tiles) - index * patches // len(tiles)
        rank = np.arange(count) if layout == "v2" else split_rng.permutation(count)
        splits = np.searchsorted(_SPLIT_ENDS, (rank + 0.5) / count, side="right")
        for (column, row), split in zip(_window(count, rng), splits):
            places.append(Place(tile, column, row, SPLITS[split], hidden.get(len(places))))
    return places


def _window(count: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Columns and rows of a window somewhere in a tile, column by column."""
    side = math.ceil(math.sqrt(count))
    left, top = rng.integers(0, _PATCHES_ACROSS - side, 2, endpoint=True)
    for i in range(count):
        yield int(left) + i // side, int(top) + i % side


def _veils(patches: int, rng: np.random.Generator) -> dict[int, Veil]:
    """What hides the ground, by index of the patch."""
    count = patches // _ONE_VEILED_IN
    chosen = rng.permutation(patches).tolist()
    snow: dict[int, Veil] = dict.fromkeys(chosen[:count], "snow")
    cloud: dict[int, Veil] = dict.fromkeys(chosen[count : 2 * count], "cloud")
    return {**snow, **cloud}
