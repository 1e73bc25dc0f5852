//! Pure parts of applying: one image a key, and what a statement does.

use super::table_rows;
use crate::{
    cache::{Change, VERSION_OVERHEAD},
    dimension::{Image, Key, TableRows, VersionedRow, mark_deleted, marked_deleted},
    live::LiveDimension,
    ring::TableChanges,
};
use bytes::Bytes;
use hashbrown::HashMap;
use std::sync::Arc;
use tidemark_proto::{Position, config::Deleted};

/// A transaction's changes of one dimension: for each key the image before the
/// transaction and the one after it.
#[derive(Debug)]
pub(super) struct Collapsed {
    pub(super) live: Arc<LiveDimension>,
    changes: Vec<Change>,
    places: HashMap<Key, usize, foldhash::fast::RandomState>,
}

impl Collapsed {
    pub(super) fn new(live: Arc<LiveDimension>) -> Self {
        Self { live, changes: Vec::new(), places: HashMap::default() }
    }

    /// Adds a row change. A changed key is a delete of the old and an insert of
    /// the new one.
    pub(super) fn add(&mut self, before: Option<(Key, Bytes)>, after: Option<(Key, Bytes)>) {
        match (before, after) {
            (Some((old, before)), Some((new, after))) if old == new => {
                self.put(old, Some(before), Some(after))
            }
            (before, after) => {
                if let Some((key, image)) = before {
                    let marks = self.live.dimension.deleted == Deleted::Mark;
                    let after = marks.then(|| mark_deleted(&image));
                    self.put(key, Some(image), after);
                }
                if let Some((key, image)) = after {
                    self.put(key, None, Some(image));
                }
            }
        }
    }

    fn put(&mut self, key: Key, before: Image, after: Image) {
        match self.places.get(&key).and_then(|place| self.changes.get_mut(*place)) {
            Some(change) => change.after = after,
            None => {
                self.places.insert(key.clone(), self.changes.len());
                self.changes.push(Change { key, before, after });
            }
        }
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What watchers will be sent of these changes.
    pub(super) fn watched(&self) -> TableChanges {
        let seen = |image: &Image| image.clone().filter(|image| marked_deleted(image).is_none());
        let rows = self.changes.iter().map(|change| (change.key.clone(), seen(&change.after)));
        TableChanges { dimension: Arc::clone(&self.live.dimension.name), whole: None, rows: rows.collect() }
    }

    /// What the overlay will hold for these changes, and of the images that they
    /// replace.
    pub(super) fn overlay_bytes(&self) -> usize {
        let size = |image: &Image| image.as_ref().map_or(0, Bytes::len);
        let both = |change: &Change| size(&change.before) + size(&change.after);
        let bytes = |change: &Change| both(change) + change.key.as_bytes().len() + VERSION_OVERHEAD;
        self.changes.iter().map(bytes).sum()
    }

    /// The rows for the store; images before a key's first change since the
    /// floor go just below it.
    pub(super) fn into_rows(self, version: Position, first_images: Vec<(Key, Image)>) -> TableRows {
        let below_floor = self.live.cache.floor().before();
        let firsts =
            first_images.into_iter().map(|(key, image)| VersionedRow { key, version: below_floor, image });
        let changes = self.changes.into_iter().map(|change| VersionedRow {
            key: change.key,
            version,
            image: change.after,
        });
        table_rows(&self.live, firsts.chain(changes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::TierKind, registry::Dimension};

    fn collapsed() -> Collapsed {
        let dimension = Dimension::new("d", TierKind::Full);
        Collapsed::new(Arc::new(LiveDimension::new(dimension, Position::try_new(1, 1, 10).unwrap())))
    }

    fn image(id: u32, text: &'static str) -> Option<(Key, Bytes)> {
        Some((Key::from_canonical(format!("[{id}]")), Bytes::from_static(text.as_bytes())))
    }

    /// Fails when `put` leaves a change that is there as it is, or replaces its
    /// image from before too.
    #[test]
    fn a_key_changed_twice_keeps_its_first_before_and_last_after() {
        let mut part = collapsed();
        part.add(image(1, "a"), image(1, "b"));
        part.add(image(1, "b"), image(1, "c"));
        let [change] = part.changes() else { panic!("one key") };
        assert_eq!((change.before.as_deref(), change.after.as_deref()), (Some(&b"a"[..]), Some(&b"c"[..])));
    }

    #[test]
    fn a_key_change_deletes_the_old_and_inserts_the_new() {
        let mut part = collapsed();
        part.add(image(1, "a"), image(2, "b"));
        let [old, new] = part.changes() else { panic!("two keys") };
        assert_eq!((old.before.is_some(), old.after.is_some()), (true, false));
        assert_eq!((new.before.is_some(), new.after.is_some()), (false, true));
    }

    #[test]
    fn an_insert_deleted_in_its_transaction_is_a_tombstone() {
        let mut part = collapsed();
        part.add(None, image(1, "a"));
        part.add(image(1, "a"), None);
        let [change] = part.changes() else { panic!("one key") };
        assert_eq!((change.before.is_some(), change.after.is_some()), (false, false));
    }

    #[test]
    fn first_images_go_just_below_the_floor() {
        let mut part = collapsed();
        part.add(image(1, "a"), image(1, "b"));
        let version = Position::try_new(1, 1, 99).unwrap();
        let (key, before) = image(1, "a").unwrap();
        let rows = part.into_rows(version, vec![(key, Some(before))]).rows;
        let versions: Vec<_> = rows.iter().map(|row| row.version.offset()).collect();
        assert_eq!(versions, [9, 99]);
    }
}
