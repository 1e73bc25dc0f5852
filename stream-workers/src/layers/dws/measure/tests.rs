//! What messages add to a table.

use super::*;
use crate::{
    layers::dws::aggregate::{Groups, Merge},
    warehouse::{
        Expression,
        plan::{Aggregate, DwsColumn, Origin, Output},
    },
};
use std::time::Duration;

/// `SELECT window_start, area, SUM(amount), COUNT(amount), MIN(day) … GROUP BY …`
fn measure() -> Measure {
    let column = |at| Expression::column(0, at);
    let aggregate =
        |name: &str, function, at| Aggregate { name: name.to_owned(), function, argument: Some(column(at)) };
    let plan = DwsPlan {
        origin: Origin::default(),
        name: String::from("dws_t"),
        source: String::from("dwd_t"),
        topic: String::from("dwd_t"),
        source_columns: ["time", "area", "amount", "day"].map(String::from).to_vec(),
        window: Some(Tumble { time: column(0), size: Duration::from_secs(10) }),
        filter: None,
        group: vec![Output { name: String::from("area"), expression: column(1) }],
        aggregates: vec![
            aggregate("amount", AggregateFunction::Sum, 2),
            aggregate("paid", AggregateFunction::Count, 2),
            aggregate("first", AggregateFunction::Min, 3),
        ],
        columns: vec![DwsColumn::WindowStart(String::from("window_start"))],
        hash: 0,
    };
    let types = DwsTypes {
        group: vec![(SqlType::Text, true)],
        aggregates: vec![SqlType::Decimal { precision: 38, scale: 2 }, SqlType::BIGINT, SqlType::Date],
    };
    let schema = Schema::try_new("shop", &plan, &value_types(&types, &plan)).unwrap();
    Measure { plan, schema }
}

fn contribute(data: &str, contributions: &mut Contributions) -> Result<bool, MeasureError> {
    let message = format!(r#"{{"database":"d","table":"dwd_t","type":"insert","data":{data}}}"#);
    measure().contribute(&Envelope::parse(message.as_bytes()).unwrap(), 0, contributions)
}

/// The groups of one row: key as SQL, and the values.
fn groups(row: &str) -> Vec<(String, Vec<Option<i128>>)> {
    let mut contributions = Contributions::default();
    contribute(row, &mut contributions).unwrap();
    let mut groups = Groups::default();
    groups.merge(&[Merge::Add, Merge::Add, Merge::Least], &contributions).unwrap();
    let integer = |value: &Option<Scalar>| match value {
        Some(Scalar::Integer(number)) => Some(*number),
        _ => None,
    };
    let shown = groups
        .changed()
        .map(|(key, group)| (measure().schema.show_key(key), group.values.iter().map(integer).collect()));
    shown.collect()
}

#[test]
fn a_row_is_in_the_window_of_its_event_time() {
    for (time, start) in [
        (r#""2024-01-01 00:00:00""#, 1_704_067_200),
        (r#""2024-01-01 00:00:09.999""#, 1_704_067_200),
        (r#""2024-01-01 00:00:10""#, 1_704_067_210),
        ("1704067219", 1_704_067_210),
    ] {
        let [(key, _)] = groups(&format!(r#"{{"time":{time},"area":"x"}}"#)).try_into().unwrap();
        assert_eq!(key, format!("window_start = {start}, area = 'x', area_is_null = 0"), "{time}");
    }
}

#[test]
fn null_and_the_empty_text_are_two_groups() {
    for (area, expect) in [("null", "area = '', area_is_null = 1"), (r#""""#, "area = '', area_is_null = 0")]
    {
        let [(key, _)] = groups(&format!(r#"{{"time":0,"area":{area}}}"#)).try_into().unwrap();
        assert_eq!(key, format!("window_start = 0, {expect}"));
    }
}

#[test]
fn values_are_read_exactly() {
    let row = r#"{"time":0,"area":"x","amount":1234567890123456.7,"day":"1970-01-03"}"#;
    assert_eq!(groups(row)[0].1, [Some(123_456_789_012_345_670), Some(1), Some(2)]);
    let nulls = r#"{"time":0,"area":"x","amount":null}"#;
    assert_eq!(groups(nulls)[0].1, [None, None, None]);
    let text = r#"{"time":0,"area":"x","amount":7E-1}"#;
    assert_eq!(groups(text)[0].1, [Some(70), Some(1), None]);
}

#[test]
fn what_does_not_fit_says_which_column() {
    for (row, expect) in [
        (r#"{"time":null}"#, "the event time is NULL: the row is in no window"),
        (r#"{"time":"1969-12-31 23:59:59"}"#, "window_start: -10 does not fit DateTime('UTC')"),
        (r#"{"time":0,"amount":0.001}"#, "amount: 0.001 is not a Decimal(38, 2)"),
        (r#"{"time":0,"amount":"1"}"#, "amount: \"1\" is not a number"),
        (r#"{"time":0,"day":"0000-00-00"}"#, "first: 0000-00-00 is not a Date"),
        (r#"{"time":0,"day":"2200-01-01"}"#, "first: 84006 is not a Date"),
    ] {
        let mut contributions = Contributions::default();
        assert_eq!(contribute(row, &mut contributions).unwrap_err().to_string(), expect);
        assert!(Groups::default().unseen(&contributions).is_empty(), "nothing of it is counted");
    }
}
