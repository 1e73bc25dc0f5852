//! The SQL and the rows of a table.

use super::*;
use crate::warehouse::{
    Expression,
    plan::{Aggregate, Origin, Output, Tumble},
};
use proptest::prelude::*;

const fn value(column: ColumnType, nullable: bool) -> ValueType {
    ValueType { column, nullable }
}

fn plan() -> DwsPlan {
    let output = |name: &str| Output { name: name.to_owned(), expression: Expression::column(0, 0) };
    let aggregate = |name: &str, function| Aggregate {
        name: name.to_owned(),
        function,
        argument: Some(Expression::column(0, 0)),
    };
    DwsPlan {
        origin: Origin::default(),
        name: String::from("dws_t"),
        source: String::from("dwd_t"),
        topic: String::from("dwd_t"),
        source_columns: vec![String::from("a")],
        window: Some(Tumble { time: Expression::column(0, 0), size: Duration::from_secs(10) }),
        filter: None,
        group: vec![output("province"), output("kind")],
        aggregates: vec![
            aggregate("amount", AggregateFunction::Sum),
            aggregate("lines", AggregateFunction::Count),
            aggregate("first", AggregateFunction::Min),
        ],
        columns: vec![
            DwsColumn::WindowStart(String::from("window_start")),
            DwsColumn::WindowEnd(String::from("window_end")),
            DwsColumn::Aggregate(0),
            DwsColumn::Group(0),
            DwsColumn::Group(1),
            DwsColumn::Aggregate(1),
            DwsColumn::Aggregate(2),
        ],
        hash: 7,
    }
}

fn types() -> ValueTypes {
    ValueTypes {
        group: vec![value(ColumnType::String, true), value(ColumnType::Decimal64(2), false)],
        aggregates: vec![
            value(ColumnType::Decimal128(2), true),
            value(ColumnType::Int64, false),
            value(ColumnType::Date, true),
        ],
    }
}

fn schema() -> Schema {
    Schema::try_new("shop", &plan(), &types()).unwrap()
}

#[test]
fn the_table_keeps_a_row_for_each_key_and_partition() {
    assert_eq!(
        schema().create_table(),
        "CREATE TABLE IF NOT EXISTS `shop`.`dws_t_prefix` (`window_start` DateTime('UTC'), `province` String, \
         `province_is_null` UInt8, `kind` Decimal(18, 2), `source_partition` Int32, `amount` Nullable(Decimal(38, 2)), \
         `lines` Int64, `first` Nullable(Date), `row_count` Int64, `version` UInt64) \
         ENGINE = ReplacingMergeTree(version) \
         ORDER BY (`window_start`, `province`, `province_is_null`, `kind`, source_partition)"
    );
}

#[test]
fn the_view_has_the_selects_columns_in_order() {
    assert_eq!(
        schema().create_view(),
        "CREATE VIEW IF NOT EXISTS `shop`.`dws_t` AS SELECT `0` AS `window_start`, `1` AS `window_end`, `2` AS `amount`, \
         `3` AS `province`, `4` AS `kind`, `5` AS `lines`, `6` AS `first` FROM (SELECT window_start AS `0`, \
         toDateTime(window_start + 10, 'UTC') AS `1`, sum(`amount`) AS `2`, if(`province_is_null` = 1, NULL, `province`) AS `3`, \
         `kind` AS `4`, sum(`lines`) AS `5`, min(`first`) AS `6` FROM `shop`.`dws_t_prefix` FINAL \
         GROUP BY `window_start`, `province`, `province_is_null`, `kind` HAVING sum(row_count) > 0)"
    );
}

#[test]
fn a_total_has_no_group_by() {
    let mut plan = plan();
    plan.window = None;
    plan.group.clear();
    plan.columns = vec![DwsColumn::Aggregate(1)];
    let schema = Schema::try_new("shop", &plan, &ValueTypes { group: Vec::new(), ..types() }).unwrap();
    assert!(schema.create_view().ends_with("FROM `shop`.`dws_t_prefix` FINAL HAVING sum(row_count) > 0)"));
    assert!(schema.create_table().ends_with("ORDER BY (source_partition)"));
    assert!(schema.select_groups(3, &[b""]).unwrap().ends_with("WHERE source_partition = 3"));
}

#[test]
fn keys_are_asked_for_as_literals() {
    let mut key = Vec::new();
    ColumnType::DateTime.write(&mut key, &Scalar::Integer(1_704_067_200)).unwrap();
    ColumnType::String.write(&mut key, &Scalar::Text(r"O'Neill\".into())).unwrap();
    key.push(0);
    ColumnType::Decimal64(2).write(&mut key, &Scalar::Integer(-1_230)).unwrap();

    let query = schema().select_groups(1, &[&key]).unwrap();

    let expect = r"FINAL WHERE source_partition = 1 AND (`window_start`, `province`, `province_is_null`, `kind`) IN ((1704067200, 'O\'Neill\\', 0, toDecimal64('-12.30', 2)))";
    assert!(query.ends_with(expect), "{query}");
    assert_eq!(
        schema().show_key(&key),
        r"window_start = 1704067200, province = 'O\'Neill\\', province_is_null = 0, kind = toDecimal64('-12.30', 2)"
    );
}

#[test]
fn a_name_of_the_tables_own_is_refused() {
    for name in ["version", "row_count", "province_is_null", "window_start"] {
        let mut plan = plan();
        plan.aggregates[0].name = name.to_owned();
        let error = Schema::try_new("shop", &plan, &types()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("AS"), "{error}");
    }
}

proptest! {
    #[test]
    fn rows_read_back(
        (window, province, kind) in (any::<u32>(), any::<Option<String>>(), -1_000_000i64..1_000_000),
        (amount, lines, first) in (prop::option::of(any::<i64>()), any::<i64>(), prop::option::of(any::<u16>())),
        (row_count, version) in (any::<i64>(), any::<u64>()),
    ) {
        let mut key = Vec::new();
        ColumnType::DateTime.write(&mut key, &Scalar::Integer(window.into())).unwrap();
        match &province {
            Some(text) => ColumnType::String.write(&mut key, &Scalar::Text(text.as_str().into())).unwrap(),
            None => ColumnType::String.write_default(&mut key),
        }
        key.push(u8::from(province.is_none()));
        ColumnType::Decimal64(2).write(&mut key, &Scalar::Integer(kind.into())).unwrap();
        let integer = |number: i128| Some(Scalar::Integer(number));
        let values = [amount.and_then(|n| integer(n.into())), integer(lines.into()), first.and_then(|n| integer(n.into()))];
        let group = Group { version, row_count, values: values.into() };
        let mut bytes = Vec::new();

        schema().write_row(&mut bytes, (&key, 5), &group).unwrap();

        let mut reader = Reader::new(&bytes);
        let (read_key, read) = schema().read_row(&mut reader).unwrap();
        prop_assert_eq!((read_key, read), (key.as_slice(), group));
        prop_assert!(reader.is_empty());
    }
}
