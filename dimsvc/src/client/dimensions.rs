//! `dimsvc dimensions`: all of them, or one described.

use super::{
    args::Dimensions,
    connection::Connection,
    failure::Failure,
    print::{Printer, interval, position, shown},
    table::{Table, pairs},
};
use serde::Serialize;
use tidemark_proto::dim::v1::{
    Column, DescribeRequest, DescribeResponse, DimensionSummary, ListDimensionsRequest, Range,
};

#[derive(Serialize)]
struct SummaryLine<'a> {
    name: &'a str,
    source_table: &'a str,
    key_columns: &'a [String],
    cache: &'a str,
    complete: bool,
}

#[derive(Serialize)]
struct DescribedLine<'a> {
    #[serde(flatten)]
    summary: SummaryLine<'a>,
    cache_reason: &'a str,
    lazy: bool,
    sink_table: &'a str,
    history_floor: Option<String>,
    resident_rows: u64,
    columns: Vec<ColumnLine<'a>>,
    indexes: Vec<IndexLine<'a>>,
    unknown: Vec<String>,
    truncated_at: Vec<Option<String>>,
}

#[derive(Serialize)]
struct ColumnLine<'a> {
    name: &'a str,
    mysql_type: &'a str,
    nullable: bool,
    key_ordinal: Option<u32>,
}

#[derive(Serialize)]
struct IndexLine<'a> {
    name: &'a str,
    columns: &'a [String],
}

pub(super) async fn run(
    mut connection: Connection,
    arguments: &Dimensions,
    out: &mut Printer,
) -> Result<(), Failure> {
    let Some(table) = &arguments.table else { return list(connection, out).await };
    let request = connection.request(DescribeRequest { table: table.clone() });
    let described = connection.dimensions.describe(request).await?.into_inner();
    if out.is_json() {
        return Ok(out.json(&described_line(&described))?);
    }
    Ok(out.text(&described_text(&described))?)
}

async fn list(mut connection: Connection, out: &mut Printer) -> Result<(), Failure> {
    let request = connection.request(ListDimensionsRequest {});
    let dimensions = connection.dimensions.list_dimensions(request).await?.into_inner().dimensions;
    if out.is_json() {
        for dimension in &dimensions {
            out.json(&summary_line(dimension))?;
        }
        return Ok(());
    }
    Ok(out.text(&list_text(&dimensions))?)
}

fn summary_line(dimension: &DimensionSummary) -> SummaryLine<'_> {
    SummaryLine {
        name: &dimension.name,
        source_table: &dimension.source_table,
        key_columns: &dimension.key_columns,
        cache: &dimension.cache,
        complete: dimension.complete,
    }
}

fn column_line(column: &Column) -> ColumnLine<'_> {
    ColumnLine {
        name: &column.name,
        mysql_type: &column.mysql_type,
        nullable: column.nullable,
        key_ordinal: (column.key_ordinal > 0).then_some(column.key_ordinal),
    }
}

fn described_line(described: &DescribeResponse) -> DescribedLine<'_> {
    DescribedLine {
        summary: SummaryLine {
            name: &described.name,
            source_table: &described.source_table,
            key_columns: &described.key_columns,
            cache: &described.cache,
            complete: described.complete,
        },
        cache_reason: &described.cache_reason,
        lazy: described.lazy,
        sink_table: &described.sink_table,
        history_floor: position(described.history_floor),
        resident_rows: described.resident_rows,
        columns: described.columns.iter().map(column_line).collect(),
        indexes: described
            .indexes
            .iter()
            .map(|index| IndexLine { name: &index.name, columns: &index.columns })
            .collect(),
        unknown: described.unknown.iter().map(range).collect(),
        truncated_at: described.truncated_at.iter().map(|at| position(*at)).collect(),
    }
}

fn list_text(dimensions: &[DimensionSummary]) -> String {
    let mut table = Table::new(["DIMENSION", "SOURCE", "KEY", "CACHE", "STATE"]);
    for dimension in dimensions {
        table.row([
            dimension.name.clone(),
            dimension.source_table.clone(),
            dimension.key_columns.join(", "),
            dimension.cache.clone(),
            state(dimension.complete).to_owned(),
        ]);
    }
    table.render()
}

fn described_text(described: &DescribeResponse) -> String {
    let reason = match described.cache_reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let history = if described.lazy {
        "none: rows are loaded when asked for".to_owned()
    } else {
        format!("from {} on", shown(described.history_floor))
    };
    let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    let facts = pairs([
        ("dimension", described.name.clone()),
        ("source", described.source_table.clone()),
        ("key", described.key_columns.join(", ")),
        ("state", state(described.complete).to_owned()),
        ("cache", format!("{}, {} rows{reason}", described.cache, described.resident_rows)),
        (
            "store",
            list(vec![described.sink_table.clone()].into_iter().filter(|name| !name.is_empty()).collect()),
        ),
        ("history", history),
        ("unknown", list(described.unknown.iter().map(range).collect())),
        ("truncated at", list(described.truncated_at.iter().map(|at| shown(*at)).collect())),
        (
            "indexes",
            list(
                described.indexes.iter().map(|i| format!("{} ({})", i.name, i.columns.join(", "))).collect(),
            ),
        ),
    ]);
    let mut columns = Table::new(["COLUMN", "TYPE", "NULL", "KEY"]);
    for column in &described.columns {
        let key = if column.key_ordinal > 0 { column.key_ordinal.to_string() } else { String::new() };
        let null = if column.nullable { "yes" } else { "no" };
        columns.row([column.name.clone(), column.mysql_type.clone(), null.to_owned(), key]);
    }
    format!("{facts}\n{}", columns.render())
}

fn range(range: &Range) -> String {
    interval(range.from, range.to)
}

fn state(complete: bool) -> &'static str {
    if complete { "complete" } else { "loading" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> DescribeResponse {
        let column = |name: &str, key_ordinal| Column {
            name: name.into(),
            mysql_type: "bigint".into(),
            nullable: key_ordinal == 0,
            key_ordinal,
        };
        DescribeResponse {
            name: "sku".into(),
            source_table: "shop.sku".into(),
            key_columns: vec!["id".into()],
            columns: vec![column("id", 1), column("name", 0)],
            cache: "lru".into(),
            cache_reason: "90.0 MiB, over 64".into(),
            complete: true,
            ..DescribeResponse::default()
        }
    }

    #[test]
    fn a_description_is_read_at_a_glance() {
        let expect = "\
dimension     sku
source        shop.sku
key           id
state         complete
cache         lru, 0 rows: 90.0 MiB, over 64
store         -
history       from - on
unknown       -
truncated at  -
indexes       -

COLUMN  TYPE    NULL  KEY
id      bigint  no    1
name    bigint  yes
";
        assert_eq!(described_text(&described()), expect);
    }

    #[test]
    fn json_has_the_same() {
        let value = serde_json::to_value(described_line(&described())).unwrap();
        assert_eq!(value["name"], "sku");
        assert_eq!(value["columns"][0]["key_ordinal"], 1);
        assert_eq!(value["columns"][1]["key_ordinal"], serde_json::Value::Null);
    }
}
