//! Lookups by index, and what a dimension's policies add to answers.

use super::*;
use crate::registry::IndexOf;
use tidemark_proto::config::{Deleted, OnStale};

fn index() -> Dimension {
    let column = |name: &str| KeyColumn { name: name.into(), kind: BIGINT, fold: Fold::Exact };
    Dimension {
        name: "sku@by_n".into(),
        sink_table: "dim_sku__by_n".into(),
        key: vec![1, 0],
        key_columns: vec![column("n"), column("id")],
        index_of: Some(IndexOf { table: "sku".into(), index: "by_n".into(), prefix_columns: 1 }),
        ..Dimension { tier: TierKind::None, ..dimension(TierKind::Full) }
    }
}

fn indexed() -> Service {
    Service::of(vec![index(), dimension(TierKind::Full)])
}

impl Service {
    /// A change of an index row; durable or not.
    fn index(&self, begin: u64, key: &'static str, after: Image, durable: bool) {
        let key = Key::from_canonical(key);
        self.live.cache.apply(at(begin), &[Change { key: key.clone(), before: None, after: after.clone() }]);
        self.lookups.live.applied.advance(at(begin + 1));
        if durable {
            let rows = vec![VersionedRow { key, version: at(begin), image: after }];
            self.store.write(&[TableRows { table: "dim_sku__by_n".into(), rows }]).unwrap();
            self.live.cache.forget(at(begin + 1));
        }
    }

    async fn ids(&self, keys: &[&str], point: Point) -> Vec<(u32, String)> {
        let table = TableLookup {
            table: "sku".into(),
            index: "by_n".into(),
            plain_keys: keys.iter().map(|key| String::from(*key)).collect(),
            ..Default::default()
        };
        let answers = self.lookup(table, point).await.unwrap();
        assert_eq!(answers.matches.iter().sum::<u32>() as usize, answers.answers.len());
        answers.answers.into_iter().map(|answer| (answer.of_key, answer.row)).collect()
    }
}

/// Fails when the store is read before the overlay, or without it.
#[tokio::test]
async fn an_index_gives_all_rows_of_a_key_as_of_a_position() {
    let service = indexed();
    service.index(100, "[7,1]", image("{1}"), true);
    service.index(200, "[7,2]", image("{2}"), true);
    service.index(300, "[71,3]", image("{3}"), true);
    service.index(400, "[7,1]", None, false);
    service.index(500, "[7,4]", image("{4}"), false);
    let rows =
        |rows: &[(u32, &str)]| -> Vec<_> { rows.iter().map(|(k, r)| (*k, String::from(*r))).collect() };
    assert_eq!(service.ids(&["[7]"], as_of(201)).await, rows(&[(0, "{1}"), (0, "{2}")]));
    assert_eq!(service.ids(&["[7]"], as_of(401)).await, rows(&[(0, "{2}")]));
    assert_eq!(
        service.ids(&["[71]", "[8]", "[7]"], latest()).await,
        rows(&[(0, "{3}"), (2, "{2}"), (2, "{4}")])
    );
}

#[tokio::test]
async fn more_rows_than_a_key_may_have_are_an_error() {
    let mut service = indexed();
    service.lookups.limits.index_rows_max = 1;
    service.index(100, "[7,1]", image("{1}"), true);
    service.index(200, "[7,2]", image("{2}"), true);
    let table = TableLookup {
        table: "sku".into(),
        index: "by_n".into(),
        plain_keys: vec!["[7]".into()],
        ..Default::default()
    };
    let error = service.lookup(table, latest()).await.unwrap_err();
    assert!(matches!(error, ServeError::Read(ReadError::TooManyRows { max: 1 })), "{error}");
}

#[tokio::test]
async fn latest_shows_what_a_deleted_row_was_where_the_dimension_asks_for_it() {
    let marking = Dimension { deleted: Deleted::Mark, ..dimension(TierKind::Full) };
    let service = Service::of(vec![marking]);
    service.commit(100, 1, Some(crate::dimension::mark_deleted(br#"{"id":1,"n":1}"#)));
    let newest = service.plain(&["[1]"], latest()).await.unwrap().remove(0);
    assert_eq!((newest.found, newest.deleted, newest.row.as_str()), (true, true, r#"{"id":1,"n":1}"#));
    let past = service.plain(&["[1]"], as_of(101)).await.unwrap().remove(0);
    assert!(!past.found && !past.deleted);
}

/// Fails without `is_stale`.
#[tokio::test]
async fn an_old_feed_is_an_error_or_a_mark() {
    for (on_stale, marked) in [(OnStale::Error, false), (OnStale::Mark, true)] {
        let impatient =
            Dimension { max_staleness: Some(Duration::ZERO), on_stale, ..dimension(TierKind::Full) };
        let service = Service::of(vec![impatient]);
        match service.plain(&["[1]"], latest()).await {
            Ok(answers) => assert!(marked && answers[0].stale),
            Err(error) => assert!(!marked && matches!(error, ServeError::Stale { .. }), "{error}"),
        }
        // A position that was reached is as fresh as was asked.
        assert!(!service.plain(&["[1]"], as_of(10)).await.unwrap()[0].stale);
    }
}

/// Fails without `key_flags`: nothing else of a key without rows can be marked.
#[tokio::test]
async fn a_key_of_an_index_without_rows_is_marked_too() {
    let old = Dimension { max_staleness: Some(Duration::ZERO), on_stale: OnStale::Mark, ..index() };
    let service = Service::of(vec![old, dimension(TierKind::Full)]);
    let flags = async |point| {
        let plain_keys = vec!["[7]".into()];
        let table =
            TableLookup { table: "sku".into(), index: "by_n".into(), plain_keys, ..Default::default() };
        service.lookup(table, point).await.unwrap().key_flags.to_vec()
    };
    assert_eq!(flags(as_of(10)).await, [2], "before history");
    assert_eq!(flags(latest()).await, [8], "stale");
}

/// Fails without `refuses_before_history`.
#[tokio::test]
async fn a_lookup_may_refuse_what_history_does_not_reach() {
    let service = Service::new(TierKind::Full);
    let table = || TableLookup { table: "sku".into(), plain_keys: vec!["[1]".into()], ..Default::default() };
    service.lookups.live.applied.advance(at(20));
    for (place, refuses, refused) in [(10, true, true), (10, false, false), (11, true, false)] {
        let read_point = Some(v1::ReadPoint { point: Some(as_of(place)) });
        let tables = vec![table()];
        let request = LookupRequest { id: 1, tables, read_point, refuse_before_history: refuses };
        let error = service.lookups.lookup(request, None).await.err();
        let is_it = |error: &ServeError| matches!(error, ServeError::BeforeHistory { begins, .. } if *begins == at(10));
        assert_eq!(error.as_ref().is_some_and(is_it), refused, "{error:?}");
        assert_eq!(error.is_some(), refused);
    }
}
