//! The conditions by which rows are found: after a key, or of given keys.
//!
//! Values are written so that MySQL compares them as the column does and its
//! index serves: numbers bare, text converted to the column's own character set
//! and collation (a character that it lacks becomes `?`, which finds no row of
//! the key; a mixture of collations would fail the whole query).

use tidemark_binlog::ColumnKind;
use tidemark_proto::{config::Fold, text::string_value};

/// A folded key has lost its trailing spaces; a row may have as many as the
/// longest key of InnoDB has bytes.
const SPACES_MAX: usize = 3_072;

/// A column that rows are found by.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
    pub(super) fold: Fold,
    /// Of text columns.
    pub(super) collation: Option<Collation>,
}

#[derive(Clone, Debug)]
pub(super) struct Collation {
    pub(super) charset: String,
    pub(super) name: String,
}

impl Compared {
    /// A token of the column as an SQL literal.
    fn literal(&self, token: &str) -> String {
        let text = || hex(string_value(token).unwrap_or_default().as_bytes());
        match (&self.kind, &self.collation) {
            (
                ColumnKind::Integer { .. }
                | ColumnKind::Decimal { .. }
                | ColumnKind::Year
                | ColumnKind::Bit { .. },
                _,
            ) => token.to_owned(),
            (ColumnKind::Binary { .. }, _) => format!("FROM_BASE64({})", text()),
            (_, Some(collation)) => collation.of(&format!("_utf8mb4 {}", text())),
            _ => format!("_utf8mb4 {}", text()),
        }
    }

    /// The rows whose column may be the token's; of a folded column also others
    /// that its collation takes for equal.
    fn equals(&self, token: &str) -> String {
        let (name, literal) = (quoted(&self.name), self.literal(token));
        match (self.fold, &self.collation) {
            (Fold::Lower, Some(collation)) => {
                let text = hex(string_value(token).unwrap_or_default().as_bytes());
                let spaces = format!("REPEAT(_utf8mb4 X'20', {SPACES_MAX})");
                let longest = collation.of(&format!("CONCAT(_utf8mb4 {text}, {spaces})"));
                format!("{name} BETWEEN {literal} AND {longest}")
            }
            _ => format!("{name} = {literal}"),
        }
    }
}

impl Collation {
    fn of(&self, text: &str) -> String {
        format!("CONVERT({text} USING {}) COLLATE {}", self.charset, self.name)
    }
}

/// A name in quotes that it cannot end.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Bytes as a literal that nothing in them can end.
fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X'{digits}'")
}

/// `(a > 1) OR (a = 1 AND b > 2)`: MySQL uses the index for this, not for the
/// row comparison `(a, b) > (1, 2)`.
pub(super) fn after_key(columns: &[Compared], tokens: &[String]) -> String {
    let mut terms = Vec::with_capacity(columns.len());
    for (place, (column, token)) in columns.iter().zip(tokens).enumerate() {
        let before = columns.iter().zip(tokens).take(place);
        let equal = before.map(|(c, token)| format!("{} = {}", quoted(&c.name), c.literal(token)));
        let greater = format!("{} > {}", quoted(&column.name), column.literal(token));
        let term: Vec<_> = equal.chain([greater]).collect();
        terms.push(format!("({})", term.join(" AND ")));
    }
    terms.join(" OR ")
}

/// `(a = 1 AND b = 2) OR (a = 3 AND b = 4)`. Not `IN`: in its list MySQL does
/// not turn text into dates.
pub(super) fn any_of<'k>(columns: &[Compared], keys: impl Iterator<Item = Vec<&'k str>>) -> String {
    let of_key = |tokens: Vec<&str>| {
        let terms: Vec<_> = columns.iter().zip(tokens).map(|(column, token)| column.equals(token)).collect();
        format!("({})", terms.join(" AND "))
    };
    keys.map(of_key).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_binlog::Charset;

    fn number(name: &str) -> Compared {
        let kind = ColumnKind::Integer { unsigned: false, bits: 32 };
        Compared { name: name.into(), kind, fold: Fold::Exact, collation: None }
    }

    fn text(name: &str, fold: Fold) -> Compared {
        let kind = ColumnKind::Text { charset: Charset::Latin1, case_insensitive: fold == Fold::Lower };
        let collation = Collation { charset: "latin1".into(), name: "latin1_bin".into() };
        Compared { name: name.into(), kind, fold, collation: Some(collation) }
    }

    #[test]
    fn a_composite_key_is_compared_column_by_column() {
        let columns = [number("a"), text("b", Fold::Exact)];
        assert_eq!(
            after_key(&columns, &["1".into(), "\"x'\"".into()]),
            "(`a` > 1) OR (`a` = 1 AND `b` > CONVERT(_utf8mb4 X'7827' USING latin1) COLLATE latin1_bin)"
        );
        assert_eq!(
            any_of(&columns, [vec!["1", "\"x\""], vec!["2", "\"\""]].into_iter()),
            "(`a` = 1 AND `b` = CONVERT(_utf8mb4 X'78' USING latin1) COLLATE latin1_bin) OR \
             (`a` = 2 AND `b` = CONVERT(_utf8mb4 X'' USING latin1) COLLATE latin1_bin)"
        );
    }

    #[test]
    fn a_folded_key_finds_rows_with_trailing_spaces() {
        let found = any_of(&[text("k", Fold::Lower)], std::iter::once(vec!["\"a\""]));
        assert!(found.starts_with("(`k` BETWEEN CONVERT(_utf8mb4 X'61' USING latin1)"), "{found}");
        assert!(found.contains("REPEAT(_utf8mb4 X'20', 3072)"), "{found}");
    }

    #[test]
    fn binary_keys_are_compared_as_bytes() {
        let kind = ColumnKind::Binary { fixed: None };
        let column = Compared { name: "k".into(), kind, fold: Fold::Exact, collation: None };
        assert_eq!(any_of(&[column], std::iter::once(vec!["\"AQ==\""])), "(`k` = FROM_BASE64(X'41513d3d'))");
    }

    #[test]
    fn names_cannot_end_their_quotes() {
        assert_eq!(quoted("a`b"), "`a``b`");
    }
}
