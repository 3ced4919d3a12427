"""What a view may be made of, and what is refused before the engine sees it."""

import pytest

from bridge import perspective_pb2 as pb
from bridge import view_config
from bridge.requests import Invalid

COLUMNS = {"timestamp": pb.DATETIME, "ticker": pb.STRING, "open": pb.FLOAT, "volume": pb.INTEGER, "date": pb.DATE}


@pytest.fixture(scope="module")
def features():
    operators = {kind: pb.Features.Operators(options=["==", "in", "is null"]) for kind in COLUMNS.values()}
    names = [pb.Features.Aggregate(name=name) for name in ("sum", "avg", "high minus low")]
    names.append(pb.Features.Aggregate(name="weighted mean", args=[pb.FLOAT]))
    aggregates = {kind: pb.Features.Aggregates(aggregates=names) for kind in COLUMNS.values()}
    return view_config.Features(pb.Features(filter_ops=operators, aggregates=aggregates).SerializeToString())


def view(**parts):
    config = pb.ViewConfig(group_by=parts.pop("group_by", []), split_by=parts.pop("split_by", []))
    for column, op, *values in parts.pop("filter", []):
        config.filter.add(column=column, op=op, value=values)
    for column, op in parts.pop("sort", []):
        config.sort.add(column=column, op=op)
    for column, names in parts.pop("aggregates", {}).items():
        config.aggregates[column].aggregations.extend(names)
    for name, fields in parts.pop("windows", {}).items():
        config.windows[name].MergeFrom(pb.ViewConfig.Window(**fields))
    config.columns.columns.columns.extend(parts.pop("columns", []))
    assert not parts
    return config


USEFUL = [
    view(),
    view(group_by=["ticker", "e"], split_by=["date"], columns=["open"], sort=[("open", pb.ViewConfig.COL_DESC)]),
    view(filter=[("open", "==", pb.Scalar(float=1)), ("ticker", "in"), ("ticker", "is null", pb.Scalar(null=0))]),
    view(aggregates={"open": ["weighted mean", "volume"], "volume": ["sum"]}),
    view(aggregates={"open": ["avg"], "volume": ["avg"]}, group_by=["ticker"]),
    view(windows={"w": {"source": "open", "op": "avg", "rows": 5, "partition_by": ["ticker"]}}, columns=["w"]),
]
USELESS = [
    view(group_by=["nothing"]),
    view(group_by=["ticker", "ticker"]),
    view(split_by=[""]),
    view(group_by=["ticker"] * 9),
    view(columns=["nothing"]),
    view(columns=["open"] * 2001),
    view(columns=["open"] * 101, group_by=["ticker"]),
    view(columns=["open"] * 101, split_by=["ticker"]),
    view(sort=[("nothing", 1)]),
    view(sort=[("open", 9)]),
    view(filter=[("nothing", "==", pb.Scalar(float=1))]),
    view(filter=[("open", "nothing", pb.Scalar(float=1))]),
    view(filter=[("open", "==")]),
    view(filter=[("open", "==", pb.Scalar())]),
    view(filter=[("open", "==", pb.Scalar(float=1), pb.Scalar(float=2))]),
    view(filter=[("ticker", "in", pb.Scalar())]),
    view(filter=[("date", "==", pb.Scalar(float=1e300))]),
    view(filter=[("timestamp", "==", pb.Scalar(float=float("nan")))]),
    view(filter=[("open", "==", pb.Scalar(float=1))] * 101),
    view(aggregates={"open": []}),
    view(aggregates={"open": ["nothing"]}),
    view(aggregates={"open": ["sum", "volume"]}),
    view(aggregates={"open": ["weighted mean"]}),
    view(aggregates={"open": ["weighted mean", "nothing"]}),
    view(aggregates={"open": ["high minus low"]}, group_by=["ticker"]),
    view(aggregates={"date": ["avg"]}, group_by=["ticker"]),
    view(aggregates={"timestamp": ["avg"]}, group_by=["ticker"]),
    view(windows={"w": {"source": "nothing", "op": "avg"}}),
    view(windows={"w": {"source": "open", "op": "nothing"}}),
    view(windows={"w": {"source": "open", "op": "avg", "partition_by": ["e"]}}),
    view(windows={"open": {"source": "open", "op": "avg"}}),
    view(windows={"psp_strand_count": {"source": "open", "op": "avg"}}),
]


@pytest.mark.parametrize("config", USEFUL, ids=str)
def test_views_that_the_engine_can_make_are_accepted(config, features):
    view_config.check_config(config, COLUMNS, {"e": pb.FLOAT}, features)


@pytest.mark.parametrize("config", USELESS, ids=str)
def test_others_are_refused_in_words(config, features):
    with pytest.raises(Invalid) as refused:
        view_config.check_config(config, COLUMNS, {"e": pb.FLOAT}, features)
    assert str(refused.value).endswith(".")


def test_an_expression_with_a_name_of_the_engines_own_is_refused(features):
    with pytest.raises(Invalid, match="psp_"):
        view_config.check_config(view(), COLUMNS, {"psp_strand_count": pb.FLOAT}, features)


def test_all_columns_of_a_wide_table_are_shown_and_those_of_groups_bounded(features):
    """The viewer names an aggregate for each column, also of those that it does not show."""
    columns = {f"c{k}": pb.INTEGER for k in range(2000)}
    aggregates = dict.fromkeys(columns, ["sum"])
    config = view(columns=list(columns), aggregates=aggregates)
    view_config.check_config(config, columns, {}, features)
    assert not config.aggregates  # the engine would look at each
    total = view(columns=list(columns), aggregates=aggregates)
    total.group_rollup_mode = pb.ViewConfig.GROUP_TOTAL
    for config in (total, pb.ViewConfig(group_by=["c0"]), pb.ViewConfig(split_by=["c0"])):
        with pytest.raises(Invalid, match="at most 100 can be grouped"):
            view_config.check_config(config, columns, {}, features)
    config = view(columns=list(columns)[:99], sort=[("c1000", 1)], aggregates=aggregates, group_by=["c0"])
    view_config.check_config(config, columns, {}, features)
    assert set(config.aggregates) == {*list(columns)[:99], "c1000"}


def test_what_means_nothing_is_put_in_order(features):
    config = view(
        group_by=["ticker"],
        filter=[("open", "is null")],
        sort=[
            ("open", pb.ViewConfig.ASC),
            ("open", pb.ViewConfig.DESC),
            ("volume", pb.ViewConfig.COL_ASC),
            ("date", 0),
        ],
        aggregates={"deleted": ["sum"], "open": ["sum"]},
    )
    config.group_by_depth = 7
    view_config.check_config(config, COLUMNS, {}, features)
    assert [value.WhichOneof("scalar") for value in config.filter[0].value] == ["null"]
    assert [(each.column, each.op) for each in config.sort] == [("open", pb.ViewConfig.ASC)]
    assert list(config.aggregates) == ["open"]
    assert config.group_by_depth == 1
