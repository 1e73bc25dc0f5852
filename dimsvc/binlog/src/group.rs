//! Events to event groups: which rows commit together, where the group begins
//! and where it ends.
//!
//! A state machine without I/O. `begin` and `end` come from the offsets that
//! events carry and from nothing else, so every reader of a binlog, from
//! wherever it starts, finds the same ones.

use crate::change::{Event, RowChange, Statement, Table, Transaction};
use crate::rows::Images;
use crate::statement::Role;
use crate::stream::StreamError;
use std::sync::Arc;
use tidemark_proto::{Position, envelope::RowKind};

#[cfg(test)]
mod tests;

/// Where an event stands in the binlog file.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Frame {
    /// Offset of its last byte plus one; 0 for an event that the server made up
    /// for this reader and that no file holds.
    pub(crate) end: u64,
    /// Its length in the file.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) ts: i64,
}

impl Frame {
    fn is_artificial(self) -> bool {
        self.end == 0
    }
}

/// What an event says, as far as groups are concerned.
#[derive(Debug)]
pub(crate) enum Signal {
    /// The next events are those of this file, from this offset on.
    Rotate {
        file: String,
        offset: u64,
    },
    /// A group begins; `None` where GTIDs were off.
    Gtid(Option<Arc<str>>),
    Query {
        role: Role,
        database: String,
        sql: String,
    },
    Rows {
        table: Arc<Table>,
        kind: RowKind,
        images: Vec<Images>,
    },
    /// The rest of the group follows, unpacked from this event.
    Payload,
    Xid(u64),
    XaPrepare {
        one_phase: bool,
    },
    /// The server is idle and has sent all up to here.
    Heartbeat {
        file: String,
    },
    /// Anything else.
    Other,
}

/// Puts groups together.
#[derive(Debug)]
pub(crate) struct Assembler {
    epoch: u64,
    file: Arc<str>,
    file_number: u64,
    /// All of the file before this offset was seen.
    offset: u64,
    /// How many bytes the rows of one transaction may take in memory.
    bytes_max: usize,
    group: Option<Group>,
}

#[derive(Debug)]
struct Group {
    begin: Position,
    gtid: Option<Arc<str>>,
    /// BEGIN was seen: what follows, up to the commit, are its rows.
    open: bool,
    /// The end of the event that the rest of the group is packed in.
    payload: Option<Position>,
    rows: Vec<RowChange>,
    bytes: usize,
    /// Names, and how many rows and bytes came before each.
    savepoints: Vec<(String, usize, usize)>,
}

impl Assembler {
    pub(crate) fn new(epoch: u64, file: &str, offset: u64, bytes_max: usize) -> Result<Self, StreamError> {
        let file_number = Position::file_number(file)?;
        Position::try_new(epoch, file_number, offset)?;
        Ok(Self { epoch, file: file.into(), file_number, offset, bytes_max, group: None })
    }

    /// Takes the next event; gives what it completes.
    pub(crate) fn accept(&mut self, frame: Frame, signal: Signal) -> Result<Option<Event>, StreamError> {
        match signal {
            Signal::Rotate { file, offset } => return self.rotate(frame, &file, offset),
            Signal::Heartbeat { file } => return self.heartbeat(frame, &file),
            _ => {}
        }
        let packed = self.group.as_ref().and_then(|group| group.payload);
        if packed.is_none() && frame.is_artificial() {
            return Ok(None);
        }
        let end = match packed {
            Some(end) => end,
            None => self.advance(frame)?,
        };
        let event = Placed { end, ts: frame.ts };
        match signal {
            Signal::Gtid(gtid) => self.begin(frame, gtid).map(|()| None),
            Signal::Payload => {
                self.group_at(end)?.payload = Some(end);
                Ok(None)
            }
            Signal::Rows { table, kind, images } => {
                self.add_rows(event, &table, Rows { kind, images }).map(|()| None)
            }
            Signal::Query { role, database, sql } => self.query(event, role, Text { database, sql }),
            Signal::Xid(xid) => self.commit(event, Some(xid)).map(Some),
            Signal::XaPrepare { one_phase } => self.prepare(event, one_phase).map(Some),
            _ if self.group.is_none() => Ok(Some(Event::Progress(end))),
            _ => Ok(None),
        }
    }

    /// Moves over an event of the file. Offsets that go back have wrapped at
    /// 4 GiB, or the stream is not the file that it says it is.
    fn advance(&mut self, frame: Frame) -> Result<Position, StreamError> {
        let start = frame.end.checked_sub(frame.size).filter(|start| *start >= self.offset);
        if start.is_none() {
            let (at, file) = (self.offset, &self.file);
            return Err(self.malformed(format!(
                "an event of {} bytes ends at {} of {file}, after offset {at}: offsets stop at 4 GiB, \
                 keep max_binlog_size at 1 GiB and transactions below 3 GiB",
                frame.size, frame.end
            )));
        }
        self.offset = frame.end;
        self.position(frame.end)
    }

    fn begin(&mut self, frame: Frame, gtid: Option<Arc<str>>) -> Result<(), StreamError> {
        if let Some(group) = &self.group {
            return Err(self.malformed(format!("the group at {} has no end", group.begin)));
        }
        let begin = self.position(frame.end.saturating_sub(frame.size))?;
        self.group = Some(Group {
            begin,
            gtid,
            open: false,
            payload: None,
            rows: Vec::new(),
            bytes: 0,
            savepoints: Vec::new(),
        });
        Ok(())
    }

    fn add_rows(&mut self, event: Placed, table: &Arc<Table>, rows: Rows) -> Result<(), StreamError> {
        let bytes_max = self.bytes_max;
        let group = self.group_at(event.end)?;
        for (before, after) in rows.images {
            group.bytes +=
                before.as_ref().map_or(0, |row| row.size()) + after.as_ref().map_or(0, |row| row.size());
            let (kind, position, ts) = (rows.kind, event.end, event.ts);
            group.rows.push(RowChange { table: Arc::clone(table), kind, position, ts, before, after });
        }
        group.bytes += size_of::<RowChange>();
        if group.bytes > bytes_max {
            return Err(StreamError::TransactionTooLarge { begin: group.begin, bytes_max });
        }
        Ok(())
    }

    fn query(&mut self, event: Placed, role: Role, text: Text) -> Result<Option<Event>, StreamError> {
        let group = self.group_at(event.end)?;
        match role {
            Role::Begin => group.open = true,
            Role::Commit | Role::XaOutcome => return self.commit(event, None).map(Some),
            Role::Rollback => {
                group.rows.clear();
                return self.commit(event, None).map(Some);
            }
            Role::Savepoint(name) => group.savepoint(name),
            Role::RollbackTo(name) => group.roll_back_to(&name).ok_or_else(|| StreamError::Malformed {
                place: event.end.to_string(),
                reason: format!("there is no savepoint `{name}` to roll back to"),
            })?,
            Role::Mark => {}
            Role::Write | Role::Other if group.open => {}
            Role::Write | Role::Other => return self.statement(event, text).map(Some),
        }
        Ok(None)
    }

    fn statement(&mut self, event: Placed, text: Text) -> Result<Event, StreamError> {
        let Group { begin, gtid, .. } = self.take_group(event.end)?;
        let Text { database, sql } = text;
        Ok(Event::Statement(Statement { begin, end: event.end, gtid, database, sql }))
    }

    fn commit(&mut self, event: Placed, xid: Option<u64>) -> Result<Event, StreamError> {
        let Group { begin, gtid, rows, .. } = self.take_group(event.end)?;
        let file = Arc::clone(&self.file);
        Ok(Event::Transaction(Transaction { begin, end: event.end, gtid, xid, ts: event.ts, file, rows }))
    }

    /// A prepared transaction may still be rolled back, and its rows are not
    /// told again when it commits.
    fn prepare(&mut self, event: Placed, one_phase: bool) -> Result<Event, StreamError> {
        let group = self.group_at(event.end)?;
        match group.rows.first() {
            Some(row) if !one_phase => Err(StreamError::Unfit {
                what: format!(
                    "table {}.{} was written by an XA transaction",
                    row.table.database, row.table.name
                ),
                fix: String::from("XA is not supported: write it in plain transactions"),
            }),
            _ => self.commit(event, None),
        }
    }

    /// A real rotate event ends a file; an artificial one only names the file
    /// that follows, also after a file that a crash left without an end.
    fn rotate(&mut self, frame: Frame, file: &str, offset: u64) -> Result<Option<Event>, StreamError> {
        if frame.is_artificial() && *file == *self.file {
            return Ok(None);
        }
        let file_number = Position::file_number(file)?;
        if file_number <= self.file_number {
            return Err(self.malformed(format!("the server went from {} back to {file}", self.file)));
        }
        if let Some(group) = self.group.take() {
            tracing::warn!(begin = %group.begin, "binlog ends inside a transaction, which is dropped");
        }
        (self.file, self.file_number, self.offset) = (file.into(), file_number, offset);
        let position = self.position(offset)?;
        Ok((!frame.is_artificial()).then_some(Event::Progress(position)))
    }

    fn heartbeat(&mut self, frame: Frame, file: &str) -> Result<Option<Event>, StreamError> {
        if self.group.is_some() || *file != *self.file || frame.end < self.offset {
            return Ok(None);
        }
        self.offset = frame.end;
        Ok(Some(Event::Progress(self.position(frame.end)?)))
    }

    fn position(&self, offset: u64) -> Result<Position, StreamError> {
        Ok(Position::try_new(self.epoch, self.file_number, offset)?)
    }

    fn group_at(&mut self, end: Position) -> Result<&mut Group, StreamError> {
        self.group.as_mut().ok_or_else(|| outside(end))
    }

    fn take_group(&mut self, end: Position) -> Result<Group, StreamError> {
        self.group.take().ok_or_else(|| outside(end))
    }

    fn malformed(&self, reason: String) -> StreamError {
        StreamError::Malformed { place: format!("{}:{}", self.file, self.offset), reason }
    }
}

fn outside(end: Position) -> StreamError {
    let reason = String::from(
        "an event stands outside of any transaction: the stream did not start at the end of one",
    );
    StreamError::Malformed { place: end.to_string(), reason }
}

/// Where the event at hand ends, and its time.
#[derive(Clone, Copy)]
struct Placed {
    end: Position,
    ts: i64,
}

struct Rows {
    kind: RowKind,
    images: Vec<Images>,
}

struct Text {
    database: String,
    sql: String,
}

impl Group {
    /// A savepoint replaces the older one of its name.
    fn savepoint(&mut self, name: String) {
        self.savepoints.retain(|(other, ..)| !other.eq_ignore_ascii_case(&name));
        self.savepoints.push((name, self.rows.len(), self.bytes));
    }

    /// `None` when there is no such savepoint.
    fn roll_back_to(&mut self, name: &str) -> Option<()> {
        let at = self.savepoints.iter().position(|(other, ..)| other.eq_ignore_ascii_case(name))?;
        self.savepoints.truncate(at + 1);
        let (_, rows, bytes) = self.savepoints.last()?;
        self.rows.truncate(*rows);
        self.bytes = *bytes;
        Some(())
    }
}
