//! Following the binlog: packets of the server to [`Event`]s.
//!
//! Each packet is read as far as it is needed: rows of tables that nobody asked
//! for are skipped by their table number, a table map is parsed once. What
//! belongs together is decided in `group`. Reconnecting is the caller's job,
//! from the end of the last event it has got.

mod captured;
mod error;
mod tables;

pub use captured::CapturedRows;
pub use error::StreamError;

use crate::change::Event;
use crate::filter::TableFilter;
use crate::group::{Assembler, Frame, Signal};
use crate::gtid::{GtidSet, gtid_text, source_text};
use crate::source::{BinlogPlace, Source, SourceError};
use crate::statement::{self, Role};
use futures_util::StreamExt;
use mysql_async::binlog::events::{
    Event as Packet, ExecuteLoadQueryEvent, GtidEvent, PreviousGtidsEvent, QueryEvent, RotateEvent,
    TransactionPayloadEvent,
};
use mysql_async::binlog::{EventFlags, EventType};
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStreamRequest, Conn};
use std::time::Duration;
use tables::Tables;
use tidemark_proto::envelope::RowKind;

/// What to follow, and within which bounds.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Identifies this reader to the server; no two readers or replicas of one
    /// server may share it.
    pub server_id: u32,
    /// The epoch of all positions given.
    pub epoch: u64,
    /// Where to start: the end of a transaction.
    pub from: BinlogPlace,
    pub tables: TableFilter,
    /// How many bytes the rows of one transaction may take in memory.
    pub transaction_bytes_max: usize,
    /// After so long without events the server sends a sign of life.
    pub heartbeat: Duration,
    /// After so long without either the stream counts as lost.
    pub liveness: Duration,
}

/// The binlog as a sequence of events. After an error it is of no more use.
pub struct BinlogStream {
    packets: mysql_async::BinlogStream,
    assembler: Assembler,
    tables: Tables,
    previous_gtids: Option<GtidSet>,
    liveness: Duration,
}

impl BinlogStream {
    /// Asks the server for its binlog from a place on.
    ///
    /// # Errors
    /// When the server cannot be reached. A place that it does not have is an
    /// error of the first [`BinlogStream::next`].
    pub async fn open(source: &Source, options: StreamOptions) -> Result<Self, StreamError> {
        let StreamOptions { epoch, from, transaction_bytes_max, .. } = &options;
        let assembler = Assembler::new(*epoch, &from.file, from.offset, *transaction_bytes_max)?;
        let mut conn = source.connect_alone().await.map_err(lost)?;
        let collations = source.collations(&mut conn).await.map_err(lost)?;
        let period = options.heartbeat.as_nanos();
        let heartbeat =
            format!("SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}");
        source.within("ask for heartbeats", conn.query_drop(heartbeat)).await.map_err(lost)?;
        let packets = source.within("ask for the binlog", request(conn, &options)).await.map_err(lost)?;
        let tables = Tables::new(options.tables, collations);
        Ok(Self { packets, assembler, tables, previous_gtids: None, liveness: options.liveness })
    }

    /// The next event. When nothing happens it is progress, about once a
    /// heartbeat.
    ///
    /// # Errors
    /// See [`StreamError`]; after one, open another stream.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: all state is in the stream.
    pub async fn next(&mut self) -> Result<Event, StreamError> {
        loop {
            let packet = match tokio::time::timeout(self.liveness, self.packets.next()).await {
                Ok(Some(Ok(packet))) => packet,
                Ok(Some(Err(error))) => return Err(StreamError::of_server(&error)),
                Ok(None) => return Err(StreamError::Lost(String::from("the server ended the stream"))),
                Err(_) => return Err(StreamError::Lost(format!("no sign of life for {:?}", self.liveness))),
            };
            let frame = frame(&packet);
            let signal = self.signal(&packet)?;
            if let Some(event) = self.assembler.accept(frame, signal)? {
                return Ok(event);
            }
        }
    }

    /// The GTIDs before the file at hand, once its head was read.
    pub(crate) fn previous_gtids(&self) -> Option<&GtidSet> {
        self.previous_gtids.as_ref()
    }

    /// An event type that is not known cannot matter to rows: the server sends
    /// no such type that a replica of this version may not skip.
    fn signal(&mut self, packet: &Packet) -> Result<Signal, StreamError> {
        use EventType as T;
        let Ok(event_type) = packet.header().event_type() else { return Ok(Signal::Other) };
        match event_type {
            T::ROTATE_EVENT => {
                let rotate: RotateEvent<'_> = packet.read_event().map_err(malformed(packet))?;
                Ok(Signal::Rotate { file: rotate.name().into_owned(), offset: rotate.position() })
            }
            T::GTID_EVENT | T::GTID_TAGGED_LOG_EVENT => {
                let gtid: GtidEvent = packet.read_event().map_err(malformed(packet))?;
                Ok(Signal::Gtid(Some(gtid_text(gtid.sid(), gtid.tag().map(|tag| &**tag), gtid.gno()).into())))
            }
            T::ANONYMOUS_GTID_EVENT => Ok(Signal::Gtid(None)),
            T::QUERY_EVENT => {
                let query: QueryEvent<'_> = packet.read_event().map_err(malformed(packet))?;
                self.query(query.schema().into_owned(), query.query().into_owned())
            }
            T::EXECUTE_LOAD_QUERY_EVENT => {
                let load: ExecuteLoadQueryEvent<'_> = packet.read_event().map_err(malformed(packet))?;
                self.query(load.schema().into_owned(), load.query().into_owned())
            }
            T::TABLE_MAP_EVENT => {
                self.tables.map(packet.data());
                Ok(Signal::Other)
            }
            T::WRITE_ROWS_EVENT => self.rows(packet, RowKind::Insert),
            T::UPDATE_ROWS_EVENT => self.rows(packet, RowKind::Update),
            T::DELETE_ROWS_EVENT => self.rows(packet, RowKind::Delete),
            T::PARTIAL_UPDATE_ROWS_EVENT
            | T::WRITE_ROWS_EVENT_V1
            | T::UPDATE_ROWS_EVENT_V1
            | T::DELETE_ROWS_EVENT_V1 => self.refuse_rows(packet, event_type),
            T::TRANSACTION_PAYLOAD_EVENT => check_payload(packet),
            T::XID_EVENT => Ok(Signal::Xid(xid(packet)?)),
            T::XA_PREPARE_LOG_EVENT => Ok(Signal::XaPrepare { one_phase: packet.data().first() == Some(&1) }),
            T::HEARTBEAT_EVENT => {
                Ok(Signal::Heartbeat { file: String::from_utf8_lossy(packet.data()).into_owned() })
            }
            T::PREVIOUS_GTIDS_EVENT => {
                let event: PreviousGtidsEvent<'_> = packet.read_event().map_err(malformed(packet))?;
                self.previous_gtids = Some(gtid_set(&event).map_err(malformed(packet))?);
                Ok(Signal::Other)
            }
            T::INCIDENT_EVENT => Err(malformed(packet)("the server notes that its binlog lacks changes")),
            _ => Ok(Signal::Other),
        }
    }

    /// Changes that are told as a statement cannot be followed.
    fn query(&self, database: String, sql: String) -> Result<Signal, StreamError> {
        let role = statement::role(&sql);
        let watched = |database: &str, table: &str| self.tables.watches(database, table);
        if role == Role::Write && statement::names_table(&sql, &database, watched) {
            let start: String = sql.chars().take(80).collect();
            return Err(StreamError::Unfit {
                what: format!("the binlog has a statement in place of its rows: {start}"),
                fix: String::from("run SET PERSIST binlog_format = 'ROW' and let no session set another"),
            });
        }
        Ok(Signal::Query { role, database, sql })
    }

    fn rows(&mut self, packet: &Packet, kind: RowKind) -> Result<Signal, StreamError> {
        let Some(mapped) = self.tables.of_rows(packet, &self.packets)? else { return Ok(Signal::Other) };
        let images = crate::rows::decode_rows(packet.data(), kind, &mapped)
            .map_err(|fault| StreamError::of_rows(&mapped.table, fault))?;
        Ok(Signal::Rows { table: std::sync::Arc::clone(&mapped.table), kind, images })
    }

    fn refuse_rows(&mut self, packet: &Packet, event_type: EventType) -> Result<Signal, StreamError> {
        let Some(mapped) = self.tables.of_rows(packet, &self.packets)? else { return Ok(Signal::Other) };
        let (what, fix) = match event_type {
            EventType::PARTIAL_UPDATE_ROWS_EVENT => ("partial JSON values", "binlog_row_value_options = ''"),
            _ => ("rows in an old format", "log_bin_use_v1_row_events = OFF"),
        };
        Err(StreamError::Unfit {
            what: format!("the binlog has {what} of table {}.{}", mapped.table.database, mapped.table.name),
            fix: format!("run SET PERSIST {fix}"),
        })
    }
}

impl std::fmt::Debug for BinlogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BinlogStream").field("assembler", &self.assembler).finish_non_exhaustive()
    }
}

async fn request(
    conn: Conn,
    options: &StreamOptions,
) -> Result<mysql_async::BinlogStream, mysql_async::Error> {
    let request = BinlogStreamRequest::new(options.server_id)
        .with_filename(options.from.file.as_bytes())
        .with_pos(options.from.offset);
    conn.get_binlog_stream(request).await
}

fn lost(error: SourceError) -> StreamError {
    match error {
        SourceError::Connect { source, .. } | SourceError::Query { source, .. } => {
            StreamError::of_server(&source)
        }
        other => StreamError::Lost(other.to_string()),
    }
}

/// Makes the error for a packet that is not what it seems.
fn malformed<E: ToString>(packet: &Packet) -> impl Fn(E) -> StreamError {
    let end = packet.header().log_pos();
    move |error| StreamError::Malformed { place: format!("offset {end}"), reason: error.to_string() }
}

fn frame(packet: &Packet) -> Frame {
    let header = packet.header();
    let artificial = header.flags().contains(EventFlags::LOG_EVENT_ARTIFICIAL_F);
    Frame {
        end: if artificial { 0 } else { u64::from(header.log_pos()) },
        size: u64::from(header.event_size()),
        ts: i64::from(header.timestamp()),
    }
}

fn xid(packet: &Packet) -> Result<u64, StreamError> {
    crate::reader::Reader::new(packet.data()).uint_le(8).map_err(malformed(packet))
}

/// The driver unpacks a compressed transaction, and passes over one that it
/// cannot unpack without a word: so try here whether it can.
fn check_payload(packet: &Packet) -> Result<Signal, StreamError> {
    let payload: TransactionPayloadEvent<'_> = packet.read_event().map_err(malformed(packet))?;
    match payload.decompressed().and_then(|mut events| events.has_data_left()) {
        Ok(true) => Ok(Signal::Payload),
        Ok(false) => Err(malformed(packet)("a compressed transaction is empty")),
        Err(error) => Err(malformed(packet)(error)),
    }
}

fn gtid_set(event: &PreviousGtidsEvent<'_>) -> Result<GtidSet, crate::gtid::GtidError> {
    let mut set = GtidSet::default();
    for sid in event.sids() {
        let source = source_text(sid.uuid(), sid.tag().map(|tag| &**tag));
        for interval in sid.intervals() {
            set.add(&format!("{source}:{}-{}", interval.start(), interval.end().saturating_sub(1)))?;
        }
    }
    Ok(set)
}
