//! Transactions → messages as Maxwell writes them. No I/O.

use super::partition;
use hashbrown::HashSet;
use std::{fmt::Write as _, ops::Range};
use tidemark_binlog::{Row, RowChange, Transaction};
use tidemark_proto::{
    config::PartitionBy,
    envelope::{EnvelopeWriter, Meta, RowKind},
};

/// How rows are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) partition_by: PartitionBy,
    pub(super) partitions: i32,
    pub(super) output_gtid: bool,
}

/// Messages that wait to be sent, in one buffer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    text: Vec<u8>,
    messages: Vec<OutMessage>,
}

#[derive(Debug)]
struct OutMessage {
    partition: i32,
    key: Range<usize>,
    payload: Range<usize>,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Bytes of keys and payloads.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Partition, key and payload of each message, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, &[u8], &[u8])> {
        let slice = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        self.messages
            .iter()
            .map(move |message| (message.partition, slice(&message.key), slice(&message.payload)))
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.messages.clear();
    }
}

/// Writes the rows of one transaction, one at a time, so that a large one can be
/// sent in parts.
pub(super) struct TransactionWriter<'t> {
    format: Format,
    transaction: &'t Transaction,
    next: usize,
    /// The keys that the transaction has written so far, by table.
    written: HashSet<(&'t str, Vec<u8>)>,
}

impl<'t> TransactionWriter<'t> {
    pub(super) fn new(format: Format, transaction: &'t Transaction) -> Self {
        Self { format, transaction, next: 0, written: HashSet::new() }
    }

    /// Writes the next row; false when there is none.
    pub(super) fn write_next(&mut self, out: &mut Outbox) -> bool {
        let number = self.next;
        let Some(change) = self.transaction.rows.get(number) else { return false };
        self.next += 1;
        // A row change without a row does not exist; there is nothing to write.
        let Some(row) = change.after.as_ref().or(change.before.as_ref()) else { return true };
        let again = self.again(change);
        let start = out.text.len();
        partition::write_key(&mut out.text, &change.table, row, (self.transaction.begin, number));
        let key = start..out.text.len();
        self.write_payload(change, row, again, &mut out.text);
        let payload = key.end..out.text.len();
        let Format { partition_by, partitions, .. } = self.format;
        let partition = partition::partition(partition_by, &change.table, row, partitions);
        out.messages.push(OutMessage { partition, key, payload });
        true
    }

    fn write_payload(&self, change: &RowChange, row: &Row, again: bool, out: &mut Vec<u8>) {
        let transaction = self.transaction;
        let mut position = String::with_capacity(32);
        // Writing into a String cannot fail.
        write!(position, "{}:{}", transaction.file, change.position.offset()).ok();
        let meta = Meta {
            database: &change.table.database,
            table: &change.table.name,
            kind: change.kind,
            ts: change.ts,
            xid: transaction.xid,
            commit: self.next == transaction.rows.len(),
            position: Some(&position),
            gtid: transaction.gtid.as_deref().filter(|_| self.format.output_gtid),
            transaction: Some((transaction.begin, transaction.end)),
            again,
        };
        let columns = &change.table.columns;
        let mut writer = EnvelopeWriter::begin(out, &meta);
        for (column, token) in columns.iter().zip(row.tokens()) {
            writer.column(&column.name, token);
        }
        if let (RowKind::Update, Some(before)) = (change.kind, &change.before) {
            let pairs = columns.iter().zip(before.tokens().zip(row.tokens()));
            let mut changed = pairs.filter(|(_, (old, new))| old != new).peekable();
            // As Maxwell: an update that changes nothing has no `old`.
            if changed.peek().is_some() {
                writer.old();
                for (column, (old, _)) in changed {
                    writer.column(&column.name, old);
                }
            }
        }
        writer.end();
    }

    /// Whether the transaction has already written the key that the change found
    /// (for an insert: makes), and remembers the keys that it writes.
    fn again(&mut self, change: &'t RowChange) -> bool {
        if self.transaction.rows.len() == 1 {
            return false;
        }
        let key = |row: &Row| (change.table.name.as_str(), key_of(change, row));
        let (before, after) = (change.before.as_ref().map(key), change.after.as_ref().map(key));
        let again = before.as_ref().or(after.as_ref()).is_some_and(|found| self.written.contains(found));
        self.written.extend(before);
        self.written.extend(after);
        again
    }
}

/// The values of the primary key, or of all columns without one.
fn key_of(change: &RowChange, row: &Row) -> Vec<u8> {
    let key = &change.table.primary_key;
    let mut text = Vec::new();
    let mut add = |token: &str| {
        text.extend_from_slice(token.as_bytes());
        // No token has a raw control character.
        text.push(0);
    };
    if key.is_empty() {
        row.tokens().for_each(&mut add);
    } else {
        key.iter().filter_map(|column| row.token(*column)).for_each(&mut add);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tidemark_binlog::{Column, ColumnKind, Table};
    use tidemark_proto::{Position, envelope::Envelope};

    const FORMAT: Format = Format { partition_by: PartitionBy::Database, partitions: 4, output_gtid: false };

    fn table(name: &str, primary_key: Vec<usize>) -> Arc<Table> {
        let column = |name: &str| Column { name: name.into(), kind: ColumnKind::Json };
        let columns = ["Id", "v"].map(column).into();
        Arc::new(Table { database: "gmall".into(), name: name.into(), columns, primary_key })
    }

    fn change(table: &Arc<Table>, before: Option<[&str; 2]>, after: Option<[&str; 2]>) -> RowChange {
        let kind = match (&before, &after) {
            (None, _) => RowKind::Insert,
            (Some(_), None) => RowKind::Delete,
            _ => RowKind::Update,
        };
        let row = |tokens: [&str; 2]| tokens.into_iter().collect::<Row>();
        let position = Position::try_new(1, 2, 500).unwrap();
        let (before, after) = (before.map(row), after.map(row));
        RowChange { table: Arc::clone(table), kind, position, ts: 7, before, after }
    }

    fn transaction(rows: Vec<RowChange>) -> Transaction {
        Transaction {
            begin: Position::try_new(1, 2, 100).unwrap(),
            end: Position::try_new(1, 2, 900).unwrap(),
            gtid: Some("u:5".into()),
            xid: Some(9),
            ts: 8,
            file: "binlog.000002".into(),
            rows,
        }
    }

    fn messages(format: Format, rows: Vec<RowChange>) -> Vec<(i32, String, String)> {
        let transaction = transaction(rows);
        let mut writer = TransactionWriter::new(format, &transaction);
        let mut out = Outbox::default();
        while writer.write_next(&mut out) {}
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        out.iter().map(|(partition, key, payload)| (partition, text(key), text(payload))).collect()
    }

    #[test]
    fn an_insert_is_written_as_maxwell_does() {
        let order = table("order_info", vec![0]);
        let written = messages(FORMAT, vec![change(&order, None, Some(["15", "\"a\""]))]);
        let (begin, end) = (1 << 52 | 2 << 32 | 100_u64, 1 << 52 | 2 << 32 | 900_u64);
        let expect = format!(
            "{{\"database\":\"gmall\",\"table\":\"order_info\",\"type\":\"insert\",\"ts\":7,\"xid\":9,\"commit\":true,\
             \"position\":\"binlog.000002:500\",\"epoch\":1,\"tx\":{begin},\"tx_end\":{end},\
             \"data\":{{\"Id\":15,\"v\":\"a\"}}}}"
        );
        let key = r#"{"database":"gmall","table":"order_info","pk.id":15}"#;
        assert_eq!(written, [(3, key.to_owned(), expect)], "partition: hash of gmall modulo 4");
    }

    #[test]
    fn an_update_tells_only_what_changed() {
        let order = table("order_info", vec![0]);
        let same = change(&order, Some(["1", "2"]), Some(["1", "2"]));
        let changed = change(&order, Some(["1", "2"]), Some(["1", "3"]));
        for (change, expect) in [(same, None), (changed, Some(vec![("v", "2")]))] {
            let written = messages(FORMAT, vec![change]);
            let envelope = Envelope::parse(written[0].2.as_bytes()).unwrap();
            assert_eq!(envelope.old.as_ref().map(|old| old.iter().collect()), expect);
        }
    }

    #[test]
    fn a_delete_tells_the_row_that_was() {
        let order = table("order_info", vec![0]);
        let written = messages(FORMAT, vec![change(&order, Some(["1", "2"]), None)]);
        let envelope = Envelope::parse(written[0].2.as_bytes()).unwrap();
        assert_eq!((envelope.kind(), envelope.data.get("v")), (Some(RowKind::Delete), Some("2")));
    }

    #[test]
    fn commit_is_on_the_last_row_and_gtid_where_asked() {
        let order = table("order_info", vec![0]);
        let rows = (0..3).map(|_| change(&order, None, Some(["1", "2"]))).collect();
        let written = messages(Format { output_gtid: true, ..FORMAT }, rows);
        let read = |text: &str| {
            let envelope = Envelope::parse(text.as_bytes()).unwrap();
            (envelope.commit, envelope.gtid.as_deref() == Some("u:5"))
        };
        let flags: Vec<_> = written.iter().map(|(_, _, payload)| read(payload)).collect();
        assert_eq!(flags, [(false, true), (false, true), (true, true)]);
    }

    #[test]
    fn again_marks_keys_that_the_transaction_has_already_written() {
        let (order, detail) = (table("order_info", vec![0]), table("order_detail", vec![0]));
        let cases = [
            (change(&order, None, Some(["1", "0"])), false),
            (change(&detail, None, Some(["1", "0"])), false),
            (change(&order, Some(["1", "0"]), Some(["1", "1"])), true),
            (change(&order, Some(["2", "0"]), Some(["3", "0"])), false),
            (change(&order, Some(["3", "0"]), None), true),
            (change(&order, None, Some(["2", "9"])), true),
        ];
        let (rows, expect): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
        let written = messages(FORMAT, rows);
        let again = |text: &str| Envelope::parse(text.as_bytes()).unwrap().again;
        assert_eq!(written.iter().map(|(_, _, payload)| again(payload)).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_row_without_a_key_gets_the_same_uuid_each_time() {
        let log = table("log", vec![]);
        let rows = || vec![change(&log, None, Some(["1", "2"])), change(&log, None, Some(["1", "2"]))];
        let (first, second) = (messages(FORMAT, rows()), messages(FORMAT, rows()));
        assert_eq!(first, second);
        assert_ne!(first[0].1, first[1].1);
        let expect = r#"{"database":"gmall","table":"log","_uuid":"00100002-0000-0064-0000-000000000001"}"#;
        assert_eq!(first[1].1, expect);
    }

    #[test]
    fn partitions_follow_what_the_config_says() {
        let order = table("order_info", vec![0]);
        let row = || vec![change(&order, None, Some(["\"1001\"", "2"]))];
        let partition = |by| messages(Format { partition_by: by, partitions: 1000, ..FORMAT }, row())[0].0;
        assert_eq!(partition(PartitionBy::Database), 555);
        assert_eq!(partition(PartitionBy::PrimaryKey), 424, "1507424: the text without its quotes");
    }
}
