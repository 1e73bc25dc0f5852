//! The truth: a short binlog that is written before the world begins, and what
//! every key was at every position of it.
//!
//! It knows nothing of caches. Answers are held against it alone.

use bytes::Bytes;
use shuttle::rand::{Rng, thread_rng};
use tidemark_heart::{AddedColumns, Answer, Change, Image, Key, Timeline, VersionedRow};
use tidemark_proto::Position;

/// Where history begins.
pub(crate) const FLOOR: u64 = 100;
/// What a row from before the column was added reads for it.
const CONSTANT: &str = r#","grade":0"#;

/// A key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) table: usize,
    pub(crate) key: usize,
}

impl Place {
    pub(crate) fn key(self) -> Key {
        Key::from_canonical(format!("[{}]", self.key))
    }
}

/// One transaction or statement.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) begin: Position,
    pub(crate) end: Position,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Rows(Vec<(Place, Image)>),
    Truncate(usize),
    AddColumn(usize),
}

/// The whole script.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) tables: usize,
    pub(crate) keys: usize,
    /// Rows that are there at the floor.
    first: Vec<(Place, Image)>,
    pub(crate) events: Vec<Event>,
}

/// What a key is at a position, and between which changes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) image: Image,
    /// Of the row; none where there is no row.
    version: Option<Position>,
    since: Position,
    until: Position,
}

pub(crate) fn at(offset: u64) -> Position {
    Position::try_new(1, 1, offset).expect("offsets of a model are small")
}

fn row(number: u64, with_column: bool) -> Image {
    let column = if with_column { r#","grade":9"# } else { "" };
    Some(Bytes::from(format!(r#"{{"v":{number}{column}}}"#)))
}

fn completed(image: &Bytes) -> Bytes {
    let text = String::from_utf8_lossy(image);
    Bytes::from(format!("{}{CONSTANT}}}", text.trim_end_matches('}')))
}

impl Log {
    /// A script of the given changes of one table, in order: one event each.
    pub(crate) fn of_one_table(keys: usize, whats: Vec<What>) -> Self {
        let first = (0..keys).map(|key| (Place { table: 0, key }, row(0, false))).collect();
        Self { tables: 1, keys, first, events: numbered(whats) }
    }

    /// A random script.
    pub(crate) fn random(tables: usize, keys: usize, events: usize) -> Self {
        let rng = &mut thread_rng();
        let places =
            |count: usize| (0..count).flat_map(move |table| (0..keys).map(move |key| Place { table, key }));
        let mut first = Vec::new();
        for place in places(tables) {
            if rng.gen_bool(0.5) {
                first.push((place, row(0, false)));
            }
        }
        let mut with_column = vec![false; tables];
        let mut whats = Vec::new();
        for number in 1..=events as u64 {
            let table = rng.gen_range(0..tables);
            let wide = with_column.get_mut(table).expect("a table of the script");
            whats.push(match rng.gen_range(0..10) {
                0 => What::Truncate(table),
                1 if !*wide => {
                    *wide = true;
                    What::AddColumn(table)
                }
                _ => {
                    let mut rows: Vec<(Place, Image)> = Vec::new();
                    for place in places(tables) {
                        if rng.gen_bool(0.5) {
                            let wide = with_column.get(place.table).is_some_and(|wide| *wide);
                            let deleted = rng.gen_bool(0.3);
                            rows.push((place, if deleted { None } else { row(number, wide) }));
                        }
                    }
                    What::Rows(rows)
                }
            });
        }
        Self { tables, keys, first, events: numbered(whats) }
    }

    /// Just past the last event.
    pub(crate) fn end(&self) -> Position {
        self.events.last().map_or(at(FLOOR), |event| event.end)
    }

    /// What the store holds of the time before the floor.
    pub(crate) fn first_rows(&self) -> impl Iterator<Item = (usize, VersionedRow)> {
        let version = at(FLOOR).before();
        let versioned = move |(place, image): &(Place, Image)| {
            (place.table, VersionedRow { key: place.key(), version, image: image.clone() })
        };
        self.first.iter().map(versioned)
    }

    /// What is known of a table's past when all up to `durable` is in the store.
    pub(crate) fn timeline(&self, table: usize, durable: Position) -> Timeline {
        let mut timeline = Timeline::new(at(FLOOR));
        for event in self.events.iter().take_while(|event| event.end <= durable) {
            match event.what {
                What::Truncate(of) if of == table => timeline.truncate(event.begin),
                What::AddColumn(of) if of == table => timeline.add_columns(event.added_columns()),
                _ => {}
            }
        }
        timeline
    }

    /// What a key is at a position, by replay.
    pub(crate) fn as_of(&self, place: Place, at_position: Position) -> Truth {
        let floor = at(FLOOR);
        let first = self.first.iter().find(|(of, _)| *of == place).and_then(|(_, image)| image.clone());
        let version = first.as_ref().map(|_| floor.before());
        let mut truth = Truth { image: first, version, since: floor.before(), until: Position::MAX };
        for event in &self.events {
            let Some(change) = event.change_of(place) else { continue };
            if event.begin >= at_position {
                truth.until = event.begin;
                break;
            }
            truth.since = event.begin;
            match change {
                Some(image) => {
                    truth.version = image.as_ref().map(|_| event.begin);
                    truth.image = image;
                }
                None => truth.image = truth.image.as_ref().map(completed),
            }
        }
        truth
    }

    /// Holds an answer against the truth; `applied` was loaded before it was
    /// read.
    ///
    /// # Panics
    /// When the answer is not true, or its interval is too wide.
    pub(crate) fn judge(&self, place: Place, (at_position, applied): (Position, Position), answer: &Answer) {
        // Where history does not reach, the floor answers.
        let at_position = at_position.max(at(FLOOR));
        let truth = self.as_of(place, at_position);
        let context = || format!("{place:?} at {at_position} of {applied}: {answer:?}, in truth {truth:?}");
        assert_eq!(answer.image(), truth.image.as_deref(), "wrong: {}", context());
        if let Some(version) = truth.version {
            assert_eq!(answer.version(), version, "wrong version: {}", context());
        }
        assert!(answer.answers(at_position), "not in its interval: {}", context());
        let to = if answer.is_open() { applied } else { answer.to };
        assert!(answer.from >= truth.since, "begins too early: {}", context());
        assert!(to <= truth.until, "ends too late: {}", context());
    }
}

fn numbered(whats: Vec<What>) -> Vec<Event> {
    let numbered = (0u64..).zip(whats);
    numbered
        .map(|(number, what)| {
            let begin = FLOOR + 10 * number;
            Event { begin: at(begin), end: at(begin + 8), what }
        })
        .collect()
}

impl Event {
    /// What the event does to a key: a new image, or (inner none) only another
    /// shape of the one it has.
    #[expect(clippy::option_option, reason = "no change, a change of shape, a change to no row")]
    fn change_of(&self, place: Place) -> Option<Option<Image>> {
        match &self.what {
            What::Rows(rows) => {
                rows.iter().find(|(of, _)| *of == place).map(|(_, image)| Some(image.clone()))
            }
            What::Truncate(table) => (*table == place.table).then_some(Some(None)),
            What::AddColumn(table) => (*table == place.table).then_some(None),
        }
    }

    /// The versions that it wrote.
    pub(crate) fn rows(&self) -> Vec<(Place, VersionedRow)> {
        let What::Rows(rows) = &self.what else { return Vec::new() };
        let row = |(place, image): &(Place, Image)| {
            (*place, VersionedRow { key: place.key(), version: self.begin, image: image.clone() })
        };
        rows.iter().map(row).collect()
    }

    /// As the heart wants to hear of an added column.
    pub(crate) fn added_columns(&self) -> AddedColumns {
        AddedColumns { at: self.begin.packed(), suffix: CONSTANT.to_owned() }
    }

    /// As apply hands a transaction over to one table.
    pub(crate) fn changes(&self, table: usize) -> Vec<Change> {
        let What::Rows(rows) = &self.what else { return Vec::new() };
        let own = rows.iter().filter(|(place, _)| place.table == table);
        own.map(|(place, image)| Change { key: place.key(), before: None, after: image.clone() }).collect()
    }
}
