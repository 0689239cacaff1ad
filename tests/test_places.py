from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jeoparda_tf.synthetic.places import TILES, Layout, Place, plan
from tfrecords_tools.errors import UsageError


def test_names_and_corners_are_those_of_the_real_patch() -> None:
    # S2A_MSIL2A_20170613T101031_87_48's JSON and, for version 2, a row of metadata.parquet.
    place = Place(TILES[0], 87, 48, "train", None)
    assert (place.left, place.top) == (404400, 5342400)
    assert place.v1_name == "S2A_MSIL2A_20170613T101031_87_48"
    assert place.s1_name == "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48"
    irish = Place(TILES[1], 0, 38, "train", None)
    assert irish.v2_name == "S2A_MSIL2A_20170617T113321_N9999_R080_T29UPU_00_38"
    assert irish.s1_name == "S1A_IW_GRDH_1SDV_20170617T064724_29UPU_0_38"
    assert irish.v1_name == "S2A_MSIL2A_20170617T113321_0_38"


def test_tiles_are_the_archives(shared_data: Path) -> None:
    columns = ["patch_id", "s1_name", "s2v1_name", "country"]
    table = pq.read_table(shared_data / "bigearthnet-v2" / "metadata.parquet", columns=columns)
    for tile in TILES:
        rows = table.filter(pc.starts_with(table["patch_id"], tile.v2)).to_pylist()
        assert {row["country"] for row in rows} == {tile.country}
        assert tile.v1 in {row["s2v1_name"].rsplit("_", 2)[0] for row in rows}
        assert f"{tile.s1}_{tile.name}" in {row["s1_name"].rsplit("_", 2)[0] for row in rows}


@pytest.mark.parametrize("layout", ["v1", "v2"])
@pytest.mark.parametrize("patches", [5, 24, 400, 5000])
def test_plan_has_each_place_once_and_all_splits(layout: Layout, patches: int) -> None:
    places = plan(patches, layout, seed=3)
    assert len({place.name(layout) for place in places}) == len({p.s1_name for p in places}) == patches
    assert all(0 <= place.column <= 90 and 0 <= place.row <= 90 for place in places)
    shares = Counter(place.split for place in places)
    for split, share in {"train": 0.6, "val": 0.2, "test": 0.2}.items():
        assert shares[split] == pytest.approx(share * patches, abs=4)
        assert shares[split]
    veils = Counter(place.veil for place in places)
    assert veils["snow"] == veils["cloud"] == patches // 40


def test_splits_mix_in_version_1_and_keep_apart_in_version_2() -> None:
    def share_beside_train(layout: Layout) -> float:
        places = {(p.tile.name, p.column, p.row): p.split for p in plan(400, layout, 0)}
        test = [key for key, split in places.items() if split == "test"]
        steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
        beside = [any(places.get((t, c + i, r + j)) == "train" for i, j in steps) for t, c, r in test]
        return sum(beside) / len(test)

    assert share_beside_train("v1") > 0.8
    assert share_beside_train("v2") == 0


def test_seed_moves_the_windows() -> None:
    assert plan(40, "v1", 0) == plan(40, "v1", 0) != plan(40, "v1", 1)


@pytest.mark.parametrize("patches", [0, -1, 33_125])
def test_impossible_numbers_are_refused(patches: int) -> None:
    with pytest.raises(UsageError, match="33,124"):
        plan(patches, "v1", 0)
