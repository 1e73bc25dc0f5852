//! Where in the binlog each transaction lies, as the server itself shows it.
//!
//! `SHOW BINLOG EVENTS` read piece by piece: nothing here is shared with the
//! decoder of the programs under test.

use crate::mysql::Session;
use anyhow::{Context, Result, bail};
use tidemark_proto::Position;

/// Events of one read.
const EVENTS_MAX: usize = 5_000;
const FAILED_READS_MAX: u32 = 100;
const ERROR_WHEN_EXECUTING_COMMAND: u16 = 1220;
/// The one life of a source server that this version knows.
const EPOCH: u64 = 1;

/// A whole transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The number in its GTID.
    pub gtid: u64,
    /// Where its GTID event begins: the version of its rows.
    pub begin: Position,
    /// Where its last event ends.
    pub end: Position,
    /// Whether it changes rows of the database that is watched.
    pub is_ours: bool,
}

/// A reader of the binlog from a place on.
pub struct Binlog {
    session: Session,
    /// How a table of the watched database is named in a table map event.
    ours: String,
    file: String,
    offset: u64,
    open: Option<Group>,
    /// Whether the open group said BEGIN: if not, it is a single statement.
    in_transaction: bool,
    /// In a row.
    failed_reads: u32,
}

impl Binlog {
    /// From the server's present end on, for changes of `database`.
    ///
    /// # Errors
    /// When the server writes no binlog.
    pub fn from_end(mut session: Session, database: &str) -> Result<Self> {
        let end = session.binlog_end()?;
        let (file, offset) = end.rsplit_once(':').context("read the binlog's end")?;
        let (file, offset) = (file.to_owned(), offset.parse().context("read the binlog's end")?);
        let ours = format!("({database}.");
        Ok(Self { session, ours, file, offset, open: None, in_transaction: false, failed_reads: 0 })
    }

    /// The transactions that ended since the last call, in order; none when
    /// nothing is new.
    ///
    /// # Errors
    /// What the server says, or a binlog without GTIDs.
    pub fn read(&mut self) -> Result<Vec<Group>> {
        let (file, offset) = (self.file.clone(), self.offset);
        let sql = format!("SHOW BINLOG EVENTS IN '{file}' FROM {offset} LIMIT {EVENTS_MAX}");
        let rows = match self.session.rows(&sql) {
            Ok(rows) => rows,
            // The server was writing the last event: it is whole in a moment.
            Err(error) if is_half_written(&error) && self.failed_reads < FAILED_READS_MAX => {
                self.failed_reads += 1;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        self.failed_reads = 0;
        let mut groups = Vec::new();
        for row in rows {
            let [_, Some(begin), Some(kind), _, Some(end), info] = &row[..] else {
                bail!("not an event: {row:?}");
            };
            let begin = begin.parse().context("read an event's begin")?;
            let end = end.parse().context("read an event's end")?;
            let event = Event { kind, begin, end, info: info.as_deref().unwrap_or_default() };
            groups.extend(self.take(&event)?);
        }
        Ok(groups)
    }

    fn take(&mut self, event: &Event<'_>) -> Result<Option<Group>> {
        self.offset = event.end;
        match event.kind {
            "Rotate" => {
                let next = event.info.split(';').next().context("read a rotation")?;
                (self.file, self.offset) = (next.to_owned(), 4);
            }
            "Gtid" => {
                let begin = self.position(event.begin)?;
                let gtid = gtid_number(event.info)?;
                self.open = Some(Group { gtid, begin, end: begin, is_ours: false });
                self.in_transaction = false;
            }
            "Table_map" => {
                let is_ours = event.info.contains(&self.ours);
                if let Some(group) = &mut self.open {
                    group.is_ours |= is_ours;
                }
            }
            "Query" if event.info == "BEGIN" => self.in_transaction = true,
            "Query" if self.in_transaction && event.info != "COMMIT" => {}
            "Query" | "Xid" | "XA_prepare" => return self.close(event.end),
            _ => {}
        }
        Ok(None)
    }

    fn close(&mut self, end: u64) -> Result<Option<Group>> {
        let end = self.position(end)?;
        Ok(self.open.take().map(|group| Group { end, ..group }))
    }

    fn position(&self, offset: u64) -> Result<Position> {
        Ok(Position::try_new(EPOCH, Position::file_number(&self.file)?, offset)?)
    }
}

struct Event<'e> {
    kind: &'e str,
    begin: u64,
    end: u64,
    info: &'e str,
}

fn is_half_written(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(mysql::Error::MySqlError(refusal)) if refusal.code == ERROR_WHEN_EXECUTING_COMMAND
    )
}

/// Of `SET @@SESSION.GTID_NEXT= 'uuid:23'`.
fn gtid_number(info: &str) -> Result<u64> {
    let number = info.trim_end_matches('\'').rsplit(':').next().unwrap_or_default();
    number.parse().with_context(|| format!("not a GTID: {info}"))
}
