//! Groups from hand-made events: bounds, rollbacks, rotations, what is refused.

use super::*;
use crate::change::Row;
use bytes::Bytes;

const FILE: &str = "binlog.000007";

fn at(offset: u64) -> Position {
    Position::try_new(3, 7, offset).unwrap()
}

fn row(text: &str) -> Row {
    Row::new(Bytes::copy_from_slice(text.as_bytes()), [text.len() as u32].into())
}

/// Feeds events one after another, each 100 bytes long, the first at 1000.
struct Feed {
    assembler: Assembler,
    offset: u64,
    table: Arc<Table>,
}

impl Feed {
    fn new() -> Self {
        Self::with_bytes_max(1 << 20)
    }

    fn with_bytes_max(bytes_max: usize) -> Self {
        let table =
            Table { database: "d".into(), name: "t".into(), columns: Vec::new(), primary_key: Vec::new() };
        let assembler = Assembler::new(3, FILE, 1000, bytes_max).unwrap();
        Self { assembler, offset: 1000, table: Arc::new(table) }
    }

    fn try_event(&mut self, signal: Signal) -> Result<Option<Event>, StreamError> {
        self.offset += 100;
        let ts = (self.offset / 100) as i64;
        self.assembler.accept(Frame { end: self.offset, size: 100, ts }, signal)
    }

    fn event(&mut self, signal: Signal) -> Option<Event> {
        self.try_event(signal).unwrap()
    }

    fn artificial(&mut self, signal: Signal) -> Option<Event> {
        self.assembler.accept(Frame { end: 0, size: 100, ts: 0 }, signal).unwrap()
    }

    fn heartbeat(&mut self, end: u64) -> Option<Event> {
        let signal = Signal::Heartbeat { file: FILE.to_owned() };
        self.assembler.accept(Frame { end, size: 40, ts: 0 }, signal).unwrap()
    }

    fn insert(&self, text: &str) -> Signal {
        Signal::Rows {
            table: Arc::clone(&self.table),
            kind: RowKind::Insert,
            images: vec![(None, Some(row(text)))],
        }
    }

    fn begin(&mut self) {
        assert!(self.event(gtid(1)).is_none());
        assert!(self.event(query("BEGIN")).is_none());
    }

    fn add(&mut self, text: &str) {
        let rows = self.insert(text);
        assert!(self.event(rows).is_none());
    }
}

fn gtid(number: u64) -> Signal {
    Signal::Gtid(Some(format!("uuid:{number}").into()))
}

fn query(sql: &str) -> Signal {
    Signal::Query { role: crate::statement::role(sql), database: String::from("d"), sql: sql.to_owned() }
}

fn transaction(event: Option<Event>) -> Transaction {
    match event {
        Some(Event::Transaction(transaction)) => transaction,
        other => panic!("not a transaction: {other:?}"),
    }
}

fn progress(event: Option<Event>) -> Position {
    match event {
        Some(Event::Progress(position)) => position,
        other => panic!("not progress: {other:?}"),
    }
}

fn texts(transaction: &Transaction) -> Vec<&str> {
    transaction.rows.iter().map(|change| change.after.as_ref().unwrap().token(0).unwrap()).collect()
}

#[test]
fn a_transaction_spans_from_its_gtid_to_its_xid() {
    let mut feed = Feed::new();
    feed.begin();
    feed.event(Signal::Other);
    feed.add("1");
    feed.add("2");
    let committed = transaction(feed.event(Signal::Xid(42)));
    assert_eq!((committed.begin, committed.end), (at(1000), at(1600)));
    assert_eq!(committed.rows.iter().map(|row| row.position).collect::<Vec<_>>(), [at(1400), at(1500)]);
    assert_eq!(committed.rows.iter().map(|row| row.ts).collect::<Vec<_>>(), [14, 15]);
    assert_eq!((committed.gtid.as_deref(), committed.xid, committed.ts), (Some("uuid:1"), Some(42), 16));
    assert_eq!((&*committed.file, texts(&committed)), (FILE, vec!["1", "2"]));
}

#[test]
fn a_commit_statement_ends_a_transaction_too() {
    let mut feed = Feed::new();
    feed.begin();
    feed.add("1");
    let committed = transaction(feed.event(query("COMMIT")));
    assert_eq!((committed.end, committed.xid, committed.rows.len()), (at(1400), None, 1));
}

#[test]
fn a_transaction_rolled_back_has_no_rows() {
    let mut feed = Feed::new();
    feed.begin();
    feed.add("1");
    let ended = transaction(feed.event(query("ROLLBACK")));
    assert_eq!((ended.begin, ended.end, ended.rows.len()), (at(1000), at(1400), 0));
}

#[test]
fn rows_after_a_savepoint_are_rolled_back_to_it() {
    let mut feed = Feed::new();
    feed.begin();
    feed.add("1");
    feed.event(query("SAVEPOINT `a`"));
    feed.add("2");
    feed.event(query("SAVEPOINT `b`"));
    feed.add("3");
    assert!(feed.event(query("ROLLBACK TO `A`")).is_none());
    feed.add("4");
    assert_eq!(texts(&transaction(feed.event(Signal::Xid(1)))), ["1", "4"]);
}

#[test]
fn rolling_back_to_an_unknown_savepoint_is_an_error() {
    let mut feed = Feed::new();
    feed.begin();
    let result = feed.try_event(query("ROLLBACK TO `a`"));
    assert!(matches!(result, Err(StreamError::Malformed { .. })), "{result:?}");
}

#[test]
fn ddl_is_a_statement_of_its_own_group() {
    let mut feed = Feed::new();
    feed.event(gtid(5));
    let Some(Event::Statement(statement)) = feed.event(query("ALTER TABLE t ADD c int")) else { panic!() };
    assert_eq!((statement.begin, statement.end), (at(1000), at(1200)));
    assert_eq!((statement.gtid.as_deref(), &*statement.database), (Some("uuid:5"), "d"));
    assert_eq!(statement.sql, "ALTER TABLE t ADD c int");
}

#[test]
fn a_statement_inside_a_transaction_is_no_event() {
    let mut feed = Feed::new();
    feed.begin();
    assert!(feed.event(query("CREATE TABLE t (a int) START TRANSACTION")).is_none());
    feed.add("1");
    let committed = transaction(feed.event(Signal::Xid(1)));
    assert_eq!((committed.begin, committed.end, committed.rows.len()), (at(1000), at(1500), 1));
}

#[test]
fn progress_is_made_between_groups_only() {
    let mut feed = Feed::new();
    assert_eq!(progress(feed.event(Signal::Other)), at(1100));
    assert_eq!(progress(feed.heartbeat(1100)), at(1100));
    feed.begin();
    assert!(feed.event(Signal::Other).is_none());
    assert!(feed.heartbeat(feed.offset).is_none());
    transaction(feed.event(Signal::Xid(1)));
    assert_eq!(progress(feed.heartbeat(feed.offset)), at(feed.offset));
}

#[test]
fn artificial_events_move_nothing() {
    let mut feed = Feed::new();
    assert!(feed.artificial(Signal::Rotate { file: FILE.to_owned(), offset: 1000 }).is_none());
    assert!(feed.artificial(Signal::Other).is_none());
    feed.begin();
    feed.add("1");
    assert!(feed.artificial(Signal::Other).is_none());
    assert_eq!(transaction(feed.event(Signal::Xid(1))).begin, at(1000));
}

#[test]
fn a_heartbeat_of_another_file_is_no_progress() {
    let mut feed = Feed::new();
    let signal = Signal::Heartbeat { file: String::from("binlog.000008") };
    assert!(feed.assembler.accept(Frame { end: 5000, size: 40, ts: 0 }, signal).unwrap().is_none());
    assert!(feed.heartbeat(900).is_none(), "behind what was seen");
}

#[test]
fn rotation_goes_on_in_the_next_file() {
    let mut feed = Feed::new();
    let next = || Signal::Rotate { file: String::from("binlog.000008"), offset: 4 };
    let ended = progress(feed.event(next()));
    assert_eq!((ended.file(), ended.offset()), (8, 4));
    assert!(feed.artificial(next()).is_none());
    feed.offset = 4;
    feed.begin();
    let committed = transaction(feed.event(Signal::Xid(1)));
    assert_eq!((committed.begin.file(), committed.begin.offset(), committed.end.offset()), (8, 4, 304));
    assert_eq!(&*committed.file, "binlog.000008");
}

#[test]
fn a_file_without_an_end_drops_its_open_transaction() {
    let mut feed = Feed::new();
    feed.begin();
    feed.add("lost");
    assert!(feed.artificial(Signal::Rotate { file: String::from("binlog.000008"), offset: 4 }).is_none());
    feed.offset = 4;
    assert_eq!(progress(feed.event(Signal::Other)).offset(), 104);
    feed.begin();
    feed.add("kept");
    assert_eq!(texts(&transaction(feed.event(Signal::Xid(1)))), ["kept"]);
}

#[test]
fn going_back_to_an_older_file_is_an_error() {
    let mut feed = Feed::new();
    let result = feed.try_event(Signal::Rotate { file: String::from("binlog.000001"), offset: 4 });
    assert!(matches!(result, Err(StreamError::Malformed { .. })), "{result:?}");
}

#[test]
fn rows_of_a_compressed_transaction_have_its_payloads_position() {
    let mut feed = Feed::new();
    feed.event(gtid(1));
    assert!(feed.event(Signal::Payload).is_none());
    for signal in [query("BEGIN"), feed.insert("1")] {
        let frame = Frame { end: 0, size: 50, ts: 77 };
        assert!(feed.assembler.accept(frame, signal).unwrap().is_none());
    }
    let event = feed.assembler.accept(Frame { end: 0, size: 50, ts: 78 }, Signal::Xid(9)).unwrap();
    let committed = transaction(event);
    assert_eq!((committed.begin, committed.end, committed.ts), (at(1000), at(1200), 78));
    assert_eq!((committed.rows[0].position, committed.rows[0].ts), (at(1200), 77));
    assert_eq!(progress(feed.event(Signal::Other)), at(1300), "the payload's end is forgotten");
}

#[test]
fn a_transaction_over_the_bound_is_refused() {
    let mut feed = Feed::with_bytes_max(1000);
    feed.begin();
    feed.add("1");
    let rows = feed.insert(&"x".repeat(1000));
    let result = feed.try_event(rows);
    assert_eq!(result.unwrap_err(), StreamError::TransactionTooLarge { begin: at(1000), bytes_max: 1000 });
}

#[test]
fn an_xa_transaction_with_rows_is_refused_unless_it_commits_at_once() {
    let one_phase = |one_phase| Signal::XaPrepare { one_phase };
    for (rows, signal, fits) in
        [(true, one_phase(true), true), (true, one_phase(false), false), (false, one_phase(false), true)]
    {
        let mut feed = Feed::new();
        feed.event(gtid(1));
        feed.event(query("XA START X'61',X'',1"));
        if rows {
            feed.add("1");
        }
        feed.event(query("XA END X'61',X'',1"));
        match feed.try_event(signal) {
            Ok(event) => assert!(fits && transaction(event).rows.len() == usize::from(rows)),
            Err(error) => assert!(!fits && matches!(error, StreamError::Unfit { .. }), "{error}"),
        }
    }
}

#[test]
fn the_outcome_of_an_xa_transaction_is_an_empty_one() {
    let mut feed = Feed::new();
    feed.event(gtid(2));
    let outcome = transaction(feed.event(query("XA COMMIT X'61',X'',1")));
    assert_eq!((outcome.begin, outcome.end, outcome.rows.len()), (at(1000), at(1200), 0));
}

#[test]
fn a_stream_that_starts_inside_a_transaction_is_refused() {
    for signal in [query("COMMIT"), Signal::Xid(1), Feed::new().insert("1"), Signal::Payload] {
        let result = Feed::new().try_event(signal);
        assert!(matches!(result, Err(StreamError::Malformed { .. })), "{result:?}");
    }
}

#[test]
fn a_group_without_an_end_is_refused() {
    let mut feed = Feed::new();
    feed.begin();
    let result = feed.try_event(gtid(2));
    assert!(matches!(result, Err(StreamError::Malformed { .. })), "{result:?}");
}

#[test]
fn offsets_that_wrap_are_refused() {
    let mut feed = Feed::new();
    let result = feed.assembler.accept(Frame { end: 60, size: 50, ts: 0 }, gtid(1));
    let Err(StreamError::Malformed { reason, .. }) = result else { panic!("{result:?}") };
    assert!(reason.contains("4 GiB"), "{reason}");
    assert!(Assembler::new(3, FILE, 1 << 32, 1).is_err());
}
