//! Rows of the source as keys and images.

use super::*;
use crate::{
    cache::TierKind,
    registry::{DimensionColumn, IndexOf, KeyColumn},
};
use proptest::prelude::*;
use tidemark_binlog::{Charset, Column};
use tidemark_proto::{config::Fold, text::object_columns};

const ID: ColumnKind = ColumnKind::Integer { unsigned: false, bits: 64 };
const TEXT: ColumnKind = ColumnKind::Text { charset: Charset::Utf8, case_insensitive: false };

/// `id`, `group`, `na"me`: as the table has them, in another order than the
/// dimension does.
fn table() -> Arc<Table> {
    let column = |name: &str, kind| Column { name: name.into(), kind };
    let columns = vec![column("group", ID), column("na\"me", TEXT), column("id", ID)];
    Arc::new(Table { database: "shop".into(), name: "d".into(), columns, primary_key: vec![2] })
}

fn dimension(key: &[usize], index_columns: Option<usize>) -> Dimension {
    let column = |name: &str, kind| DimensionColumn {
        name: name.into(),
        kind,
        mysql_type: String::new(),
        nullable: name != "id",
    };
    let columns = vec![column("id", ID), column("group", ID), column("na\"me", TEXT)];
    let key_column = |place: &usize| KeyColumn {
        name: columns[*place].name.clone(),
        kind: columns[*place].kind.clone(),
        fold: Fold::Exact,
    };
    let index_of = |prefix_columns| IndexOf { table: "d".into(), index: "i".into(), prefix_columns };
    Dimension {
        key: key.to_vec(),
        key_columns: key.iter().map(key_column).collect(),
        index_of: index_columns.map(index_of),
        columns,
        ..Dimension::new("d", TierKind::None)
    }
}

fn key(dimension: &Dimension, row: &[&str]) -> Result<Option<String>, ShapeError> {
    let shape = RowShape::new(dimension, &table()).unwrap();
    let key = shape.key(dimension, &row.iter().copied().collect())?;
    Ok(key.map(|key| String::from_utf8(key.as_bytes().to_vec()).unwrap()))
}

#[test]
fn an_index_key_is_its_columns_and_then_the_tables_key() {
    let index = dimension(&[2, 1, 0], Some(2));
    assert_eq!(key(&index, &["7", "\"a\"", "1"]).unwrap().as_deref(), Some("[\"a\",7,1]"));
}

/// Fails without the look for `null` in `RowShape::key`.
#[test]
fn a_row_that_is_null_in_an_index_column_is_not_in_the_index() {
    let index = dimension(&[2, 1, 0], Some(2));
    assert_eq!(key(&index, &["null", "\"a\"", "1"]), Ok(None));
    assert_eq!(key(&index, &["7", "null", "1"]), Ok(None));
    assert_eq!(key(&index, &["7", "\"null\"", "1"]).unwrap().as_deref(), Some("[\"null\",7,1]"));
}

#[test]
fn a_null_in_a_key_that_is_no_index_is_an_error() {
    assert!(matches!(key(&dimension(&[1], None), &["null", "\"a\"", "1"]), Err(ShapeError::Key { .. })));
    assert!(matches!(
        key(&dimension(&[1, 0], Some(1)), &["7", "\"a\"", "null"]),
        Err(ShapeError::Key { .. })
    ));
    assert!(matches!(key(&dimension(&[1, 0], Some(1)), &["7", "\"a\""]), Err(ShapeError::Short { .. })));
}

proptest! {
    #[test]
    fn an_image_holds_every_column_as_the_source_wrote_it(
        id in any::<i64>(), group in proptest::option::of(any::<i64>()), name in any::<String>(),
    ) {
        let mut quoted = Vec::new();
        write_string(&mut quoted, &name);
        let tokens = [
            group.map_or(String::from("null"), |group| group.to_string()),
            String::from_utf8(quoted).unwrap(),
            id.to_string(),
        ];
        let dimension = dimension(&[0], None);
        let shape = RowShape::new(&dimension, &table()).unwrap();

        let (key, image) =
            shape.keyed(&dimension, &tokens.iter().map(String::as_str).collect()).unwrap().unwrap();

        let (image, key) = (std::str::from_utf8(&image).unwrap(), String::from_utf8_lossy(key.as_bytes()));
        let columns: Vec<_> = object_columns(image).collect();
        let expect = [("id", &*tokens[2]), ("group", &*tokens[0]), ("na\\\"me", &*tokens[1])];
        prop_assert_eq!(columns, expect);
        prop_assert_eq!(key, format!("[{id}]"));
        let parsed: serde_json::Value = serde_json::from_str(image).unwrap();
        prop_assert_eq!(parsed.get("na\"me").and_then(serde_json::Value::as_str), Some(&*name));
    }
}
