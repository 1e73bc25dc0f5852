//! Maxwell's placing of a row: its Kafka key and its partition.

use tidemark_binlog::{Row, Table};
use tidemark_proto::{
    Position,
    config::PartitionBy,
    text::{string_value, write_string},
};

/// The partition of a row, as Maxwell's default hash chooses it.
pub(super) fn partition(by: PartitionBy, table: &Table, row: &Row, partitions: i32) -> i32 {
    let hash = match by {
        PartitionBy::Database => java_hash(&table.database),
        PartitionBy::Table => java_hash(&table.name),
        PartitionBy::PrimaryKey => java_hash(&key_text(table, row)),
    };
    // Java's remainder keeps the sign too; the abs of a remainder cannot overflow.
    hash.checked_rem(partitions).unwrap_or(0).abs()
}

/// Appends the key of a row: `{"database":"d","table":"t","pk.id":1}`. A row
/// without a primary key gets a UUID like Maxwell's, but one that is the same
/// when the row is sent again.
pub(super) fn write_key(out: &mut Vec<u8>, table: &Table, row: &Row, (begin, number): (Position, usize)) {
    out.extend_from_slice(b"{\"database\":");
    write_string(out, &table.database);
    out.extend_from_slice(b",\"table\":");
    write_string(out, &table.name);
    if table.primary_key.is_empty() {
        let (high, low) = (begin.packed(), number as u64);
        let (first, second, third) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
        let (fourth, fifth) = (low >> 48, low & 0xffff_ffff_ffff);
        let uuid = format!(",\"_uuid\":\"{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-{fifth:012x}\"");
        out.extend_from_slice(uuid.as_bytes());
    }
    for column in &table.primary_key {
        let Some((described, token)) = table.columns.get(*column).zip(row.token(*column)) else { continue };
        out.push(b',');
        write_string(out, &format!("pk.{}", described.name.to_lowercase()));
        out.push(b':');
        out.extend_from_slice(token.as_bytes());
    }
    out.push(b'}');
}

/// The values of the primary key, one after the other: lossy, made for hashing.
fn key_text(table: &Table, row: &Row) -> String {
    if table.primary_key.is_empty() {
        return format!("{}{}", table.database, table.name);
    }
    let mut text = String::new();
    for token in table.primary_key.iter().filter_map(|column| row.token(*column)) {
        match string_value(token) {
            Some(value) => text.push_str(&value),
            None if token == "null" => {}
            None => text.push_str(token),
        }
    }
    if text.is_empty() { String::from("None") } else { text }
}

/// `String.hashCode` of Java: over UTF-16 units.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        // As jshell prints "…".hashCode().
        let goldens = [
            ("", 0),
            ("a", 97),
            ("gmall", 98_466_555),
            ("order_detail", 598_628_962),
            ("hello world", 1_794_106_052),
            ("polygenelubricants", i32::MIN),
            ("价格", 653_349),
            ("😀", 1_772_899),
        ];
        for (text, expect) in goldens {
            assert_eq!(java_hash(text), expect, "{text}");
        }
    }
}
