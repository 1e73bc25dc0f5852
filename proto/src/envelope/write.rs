//! Writing a change message.

use super::RowKind;
use crate::{Position, text::write_string};

/// The fields of a message beside its columns. Unset options are not written.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    pub database: &'a str,
    pub table: &'a str,
    pub kind: RowKind,
    /// Seconds since 1970.
    pub ts: i64,
    pub xid: Option<u64>,
    /// The last row of its transaction.
    pub commit: bool,
    /// `file:offset` as the source names its files.
    pub position: Option<&'a str>,
    pub gtid: Option<&'a str>,
    /// Begin and end of the transaction; they bring `epoch` with them.
    pub transaction: Option<(Position, Position)>,
    pub again: bool,
}

/// Writes one message: the meta fields, then the columns of `data`, then those
/// of `old`.
#[derive(Debug)]
pub struct EnvelopeWriter<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> EnvelopeWriter<'o> {
    /// Begins a message at the end of `out`.
    pub fn begin(out: &'o mut Vec<u8>, meta: &Meta<'_>) -> Self {
        out.extend_from_slice(b"{\"database\":");
        write_string(out, meta.database);
        out.extend_from_slice(b",\"table\":");
        write_string(out, meta.table);
        out.extend_from_slice(b",\"type\":\"");
        out.extend_from_slice(meta.kind.as_str().as_bytes());
        out.push(b'"');
        number(out, "ts", meta.ts);
        if let Some(xid) = meta.xid {
            number(out, "xid", xid);
        }
        if meta.commit {
            out.extend_from_slice(b",\"commit\":true");
        }
        for (name, value) in [("position", meta.position), ("gtid", meta.gtid)] {
            if let Some(value) = value {
                field(out, name);
                write_string(out, value);
            }
        }
        if let Some((begin, end)) = meta.transaction {
            number(out, "epoch", begin.epoch());
            number(out, "tx", begin.packed());
            number(out, "tx_end", end.packed());
        }
        if meta.again {
            out.extend_from_slice(b",\"again\":true");
        }
        out.extend_from_slice(b",\"data\":{");
        Self { out, first: true }
    }

    /// Adds a column; `token` is its value as JSON text.
    pub fn column(&mut self, name: &str, token: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        write_string(self.out, name);
        self.out.push(b':');
        self.out.extend_from_slice(token.as_bytes());
    }

    /// Ends `data` and begins `old`: further columns are old values.
    pub fn old(&mut self) {
        self.out.extend_from_slice(b"},\"old\":{");
        self.first = true;
    }

    /// Ends the message.
    pub fn end(self) {
        self.out.extend_from_slice(b"}}");
    }
}

fn field(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    field(out, name);
    out.extend_from_slice(value.to_string().as_bytes());
}
