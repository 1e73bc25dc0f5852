//! What an ALTER TABLE does to a table's columns, specification by
//! specification.

use super::column::{ColumnDefinition, Cursor, column_definition};
use super::tokens::{Token, tokens};

/// One specification of an ALTER TABLE, as far as rows are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    Add(ColumnDefinition),
    Drop {
        column: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// MODIFY or CHANGE.
    Change {
        column: String,
        definition: ColumnDefinition,
    },
    /// Indexes, defaults, comments, options: rows stay as they are.
    Harmless,
    /// Anything else: rows may be others afterwards.
    Unknown,
}

/// The specifications of an `ALTER TABLE`, from after the table's name on.
/// Empty when the text cannot be read.
pub(super) fn alterations(specifications: &str) -> Vec<Alteration> {
    let Some(tokens) = tokens(specifications) else { return vec![Alteration::Unknown] };
    let mut found = Vec::new();
    for specification in split(&tokens) {
        alteration(Cursor::new(specification), &mut found);
    }
    found
}

/// Splits at the commas that stand in no brackets.
fn split(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0_i32;
    let at_comma = |token: &Token| {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth -= 1,
            _ => {}
        }
        depth == 0 && *token == Token::Symbol(',')
    };
    tokens.split(at_comma).filter(|specification| !specification.is_empty()).collect()
}

fn alteration(mut cursor: Cursor<'_>, found: &mut Vec<Alteration>) {
    let first = cursor.keyword();
    let known = match first.as_str() {
        "ADD" => return add(cursor, found),
        "DROP" => drop(cursor),
        "RENAME" => rename(cursor),
        "MODIFY" | "CHANGE" => change(cursor, first == "CHANGE"),
        "ALTER" => alter(cursor),
        "CONVERT" => None,
        "COMMENT" | "ALGORITHM" | "LOCK" | "FORCE" | "ORDER" | "ENABLE" | "DISABLE" | "WITH" | "WITHOUT"
        | "AUTO_INCREMENT" | "ROW_FORMAT" | "KEY_BLOCK_SIZE" | "STATS_PERSISTENT" | "STATS_AUTO_RECALC"
        | "STATS_SAMPLE_PAGES" | "COMPRESSION" | "ENCRYPTION" | "AVG_ROW_LENGTH" | "MAX_ROWS"
        | "MIN_ROWS" | "CHECKSUM" | "CHARACTER" | "CHARSET" | "COLLATE" | "DEFAULT" => {
            Some(Alteration::Harmless)
        }
        "ENGINE" => {
            cursor.next();
            cursor.symbol('=');
            let engine = cursor.name().unwrap_or_default();
            engine.eq_ignore_ascii_case("InnoDB").then_some(Alteration::Harmless)
        }
        _ => None,
    };
    found.push(known.unwrap_or(Alteration::Unknown));
}

fn add(mut cursor: Cursor<'_>, found: &mut Vec<Alteration>) {
    cursor.next();
    match cursor.keyword().as_str() {
        "INDEX" | "KEY" | "UNIQUE" | "FULLTEXT" | "SPATIAL" | "CHECK" => {
            return found.push(Alteration::Harmless);
        }
        "CONSTRAINT" | "FOREIGN" | "PRIMARY" => {
            // A key that cascades changes rows without a trace; another primary
            // key may tell rows apart otherwise.
            let mut unknown = false;
            while !cursor.is_empty() {
                unknown |= matches!(cursor.keyword().as_str(), "CASCADE" | "SET" | "PRIMARY");
                cursor.next();
            }
            return found.push(if unknown { Alteration::Unknown } else { Alteration::Harmless });
        }
        "PARTITION" | "PERIOD" | "SYSTEM" => return found.push(Alteration::Unknown),
        _ => {}
    }
    cursor.take(&["COLUMN"]);
    let mut several = cursor.clone();
    let inner = several.bracketed().unwrap_or_default();
    let one = |definition: Option<ColumnDefinition>| definition.map_or(Alteration::Unknown, Alteration::Add);
    if inner.is_empty() {
        found.push(one(column_definition(&mut cursor)));
        return;
    }
    for definition in split(inner) {
        found.push(one(column_definition(&mut Cursor::new(definition))));
    }
}

fn drop(mut cursor: Cursor<'_>) -> Option<Alteration> {
    cursor.next();
    match cursor.keyword().as_str() {
        "INDEX" | "KEY" | "FOREIGN" | "CHECK" | "CONSTRAINT" => return Some(Alteration::Harmless),
        "PRIMARY" | "PARTITION" | "SYSTEM" => return None,
        _ => {}
    }
    cursor.take(&["COLUMN"]);
    cursor.take(&["IF", "EXISTS"]);
    Some(Alteration::Drop { column: cursor.name()? })
}

fn rename(mut cursor: Cursor<'_>) -> Option<Alteration> {
    cursor.next();
    if cursor.take(&["INDEX"]) || cursor.take(&["KEY"]) {
        return Some(Alteration::Harmless);
    }
    if !cursor.take(&["COLUMN"]) {
        return None;
    }
    let from = cursor.name()?;
    let to = cursor.take(&["TO"]).then(|| cursor.name()).flatten()?;
    Some(Alteration::Rename { from, to })
}

fn change(mut cursor: Cursor<'_>, renames: bool) -> Option<Alteration> {
    cursor.next();
    cursor.take(&["COLUMN"]);
    let column = if renames { cursor.name()? } else { cursor.clone().name()? };
    Some(Alteration::Change { column, definition: column_definition(&mut cursor)? })
}

/// `ALTER COLUMN c SET DEFAULT …`, `ALTER INDEX i VISIBLE`.
fn alter(mut cursor: Cursor<'_>) -> Option<Alteration> {
    cursor.next();
    if cursor.take(&["INDEX"]) || cursor.take(&["CHECK"]) || cursor.take(&["CONSTRAINT"]) {
        return Some(Alteration::Harmless);
    }
    cursor.take(&["COLUMN"]);
    cursor.name()?;
    matches!(cursor.keyword().as_str(), "SET" | "DROP").then_some(Alteration::Harmless)
}

#[cfg(test)]
mod tests;
