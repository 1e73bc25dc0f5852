//! Indexes: for each, a dimension keyed by the index's columns and then by the
//! table's key, holding all columns of the table.
//!
//! A lookup by index is thereby a scan of the keys that begin with the looked-up
//! values ([`super::write_prefix`]), as of any position, and apply keeps an index
//! as it keeps any dimension. A row that is NULL in a column of the index is not
//! in it: SQL equality never finds it.

use super::{Dimension, check_sink, columns::key_column};
use crate::cache::TierKind;
use std::sync::Arc;
use tidemark_proto::config::{Deleted, DimensionConfig};

/// What an index dimension is the index of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexOf {
    /// The dimension's name.
    pub table: Arc<str>,
    pub index: String,
    /// How many columns of the key are the index's; the table's key follows.
    pub prefix_columns: usize,
}

/// The dimensions of a table's indexes.
///
/// # Errors
/// The first index that cannot be kept, and why.
pub(super) fn indexes(config: &DimensionConfig, table: &Dimension) -> Result<Vec<Dimension>, String> {
    let index = |(name, columns): (&String, &Vec<String>)| {
        let places = places(name, columns, table);
        let index = places.and_then(|places| dimension(name, &places, config, table));
        index.map_err(|why| format!("index `{name}`: {why}"))
    };
    config.indexes.iter().map(index).collect()
}

/// Where the columns of an index stand in its table.
fn places(name: &str, columns: &[String], table: &Dimension) -> Result<Vec<usize>, String> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(String::from("its name must be letters, digits and `_`"));
    }
    if columns.is_empty() {
        return Err(format!("it has no column; write {name} = [\"COLUMN\"]"));
    }
    let mut places = Vec::with_capacity(columns.len());
    for column in columns {
        let place = table.columns.iter().position(|known| known.name.eq_ignore_ascii_case(column));
        let place = place.ok_or_else(|| {
            let known: Vec<_> = table.columns.iter().map(|known| known.name.as_str()).collect();
            let known = known.join(", ");
            format!(
                "column `{column}` is not kept, only {known} are; name one of them, or add it to `columns`"
            )
        })?;
        if places.contains(&place) {
            return Err(format!("column `{column}` is in it twice; take one out"));
        }
        places.push(place);
    }
    if table.key.iter().all(|place| places.contains(place)) {
        return Err(String::from("it holds the whole key, by which rows are found without it; take it out"));
    }
    Ok(places)
}

fn dimension(
    name: &str,
    places: &[usize],
    config: &DimensionConfig,
    table: &Dimension,
) -> Result<Dimension, String> {
    let own = places.iter().map(|place| key_column(config, &table.columns, *place));
    let mut key_columns = own.collect::<Result<Vec<_>, _>>()?;
    key_columns.extend(table.key_columns.iter().cloned());
    let sink_table = format!("{}__{name}", table.sink_table);
    check_sink(&sink_table)?;
    Ok(Dimension {
        name: format!("{}@{name}", table.name).into(),
        sink_table: sink_table.into(),
        key: places.iter().chain(&table.key).copied().collect(),
        key_columns,
        index_of: Some(IndexOf {
            table: Arc::clone(&table.name),
            index: name.to_owned(),
            prefix_columns: places.len(),
        }),
        tier: TierKind::None,
        tier_reason: String::from("an index is read from overlay and store"),
        refresh_ahead: false,
        shared: false,
        // A row that left a key of the index is not one of its rows any more,
        // deleted or not.
        deleted: if table.deleted == Deleted::Mark { Deleted::Keep } else { table.deleted },
        ..table.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{DimensionColumn, KeyColumn};
    use tidemark_binlog::{Charset, ColumnKind};
    use tidemark_proto::config::Fold;

    const ID: ColumnKind = ColumnKind::Integer { unsigned: false, bits: 64 };

    /// Keyed by (order, line).
    fn table() -> Dimension {
        let column = |name: &str, kind| DimensionColumn {
            name: name.into(),
            kind,
            mysql_type: String::new(),
            nullable: true,
        };
        let name = ColumnKind::Text { charset: Charset::Utf8, case_insensitive: true };
        let columns = vec![
            column("order", ID),
            column("line", ID),
            column("sku", ID),
            column("name", name),
            column("price", ColumnKind::Double),
        ];
        let key_column = |name: &str| KeyColumn { name: name.into(), kind: ID, fold: Fold::Exact };
        Dimension {
            columns,
            key: vec![0, 1],
            key_columns: vec![key_column("order"), key_column("line")],
            order_key: vec![0, 1],
            shared: true,
            refresh_ahead: true,
            ..Dimension::new("lines", TierKind::Full)
        }
    }

    fn made(text: &str) -> Result<Vec<Dimension>, String> {
        indexes(&toml::from_str(text).unwrap(), &table())
    }

    #[test]
    fn an_index_is_a_dimension_of_all_columns_keyed_by_its_own_and_the_tables() {
        let made = made("indexes = { by_line = [\"LINE\"], by_sku = [\"sku\"] }").unwrap();
        let [by_line, by_sku] = &made[..] else { panic!("two indexes: {made:?}") };
        assert_eq!((&*by_sku.name, &*by_sku.sink_table), ("lines@by_sku", "dim_lines__by_sku"));
        assert_eq!(by_sku.source, "lines");
        assert_eq!(by_sku.key_names().collect::<Vec<_>>(), ["sku", "order", "line"]);
        assert_eq!((&by_sku.key, &by_sku.order_key), (&vec![2, 0, 1], &vec![0, 1]));
        assert_eq!(by_sku.columns, table().columns);
        let index_of = IndexOf { table: "lines".into(), index: "by_sku".into(), prefix_columns: 1 };
        assert_eq!(by_sku.index_of, Some(index_of));
        assert_eq!((by_sku.tier, by_sku.shared, by_sku.refresh_ahead), (TierKind::None, false, false));
        assert_eq!(by_line.key, [1, 0, 1]);
    }

    /// Fails without the exception for `Deleted::Mark`: an index would give rows
    /// that moved away as deleted ones.
    #[test]
    fn an_index_does_not_mark_what_left_it() {
        let marking = Dimension { deleted: Deleted::Mark, ..table() };
        let config = toml::from_str("indexes = { by_sku = [\"sku\"] }").unwrap();
        let made = indexes(&config, &marking).unwrap();
        assert_eq!(made[0].deleted, Deleted::Keep);
    }

    #[test]
    fn what_cannot_be_an_index_is_refused_with_what_to_do() {
        for (index, expect) in [
            ("by_none = []", "write by_none = [\"COLUMN\"]"),
            ("by_colour = [\"colour\"]", "column `colour` is not kept, only order, line, sku"),
            ("twice = [\"sku\", \"SKU\"]", "column `SKU` is in it twice"),
            ("key = [\"line\", \"order\"]", "it holds the whole key"),
            ("wide = [\"sku\", \"line\", \"order\"]", "it holds the whole key"),
            ("by_price = [\"price\"]", "whose values cannot be keys"),
            ("by_name = [\"name\"]", "fold = \"lower\""),
            ("\"a-b\" = [\"sku\"]", "letters, digits"),
        ] {
            let mistake = made(&format!("indexes = {{ {index} }}")).unwrap_err();
            assert!(mistake.starts_with("index `") && mistake.contains(expect), "{index}: {mistake}");
        }
        let long = format!("indexes = {{ {} = [\"sku\"] }}", "i".repeat(120));
        assert!(made(&long).unwrap_err().contains("128 at most"));
    }
}
