//! Which dimensions a store may serve again: only those whose every change was
//! followed since their rows were loaded, and in the form they were loaded in.

use crate::{
    registry::Dimension,
    state::{Definition, State, StateCells},
};
use anyhow::bail;
use std::collections::BTreeSet;

/// Checks a configured dimension against what the store knows.
///
/// # Errors
/// When its stored rows would be read wrongly, or are out of date.
pub(super) fn check(dimension: &Dimension, cells: &StateCells) -> anyhow::Result<()> {
    let (name, now) = (dimension.name.as_ref(), Definition::of(dimension));
    let anew = "load it anew under another section name with its own `sink_table`";
    let owner = cells.dimensions().find(|(_, known)| known.definition.sink_table == now.sink_table);
    if let Some((owner, _)) = owner.filter(|(owner, _)| *owner != name) {
        bail!(
            "dimensions.toml: [{name}]: `sink_table` {} holds the rows of [{owner}]; name another",
            now.sink_table
        );
    }
    let Some(known) = cells.dimension(name) else { return Ok(()) };
    if cells.state().dimensions.get(name).is_some_and(|mark| mark.retired) {
        bail!(
            "dimensions.toml: [{name}] was taken out before, and its changes were not followed since; {anew}"
        );
    }
    let same_key = dimension.clone().with_columns(&known.definition.columns).is_ok();
    if !same_key || !is_same(&now, &known.definition) {
        bail!(
            "dimensions.toml: [{name}]: source, key, columns or `sink_table` differ from what the store was loaded \
             with; {anew}"
        );
    }
    Ok(())
}

/// Whether two definitions say the same of which rows are kept. Columns may
/// have become others since: that is told by the binlog, and followed or mended
/// from there.
fn is_same(now: &Definition, known: &Definition) -> bool {
    let names = |definition: &Definition| {
        let mut names: Vec<_> = definition.columns.iter().map(|column| column.name.to_lowercase()).collect();
        names.sort_unstable();
        names
    };
    let same_columns = now.all_columns || names(now) == names(known);
    (&now.source, &now.sink_table, &now.key) == (&known.source, &known.sink_table, &known.key)
        && now.all_columns == known.all_columns
        && same_columns
}

/// What the configured dimensions and those that the store follows do not have
/// in common, in words; `None` when they are the same.
pub(super) fn difference(configured: &[Dimension], state: &State) -> Option<String> {
    let here: BTreeSet<_> = super::stored(configured).map(|dimension| dimension.name.as_ref()).collect();
    let followed: BTreeSet<_> = state.followed().collect();
    let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    (here != followed).then(|| {
        let new = names(here.difference(&followed).copied().collect());
        let gone = names(followed.difference(&here).copied().collect());
        format!("new: {new}; taken out: {gone}")
    })
}

/// Marks the dimensions that are no longer configured, or only as lazy ones:
/// their changes are not written any more.
pub(super) fn retire(state: &mut State, configured: &[Dimension]) {
    for (name, mark) in &mut state.dimensions {
        let gone = !super::stored(configured).any(|dimension| dimension.name.as_ref() == name);
        if gone && !mark.retired {
            tracing::warn!(
                dimension = name,
                "no longer kept by dimensions.toml: its changes are not written any more"
            );
            mark.retired = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{TierKind, Timeline},
        state::{Checkpoint, DimensionState},
        store::{StorePool, memory::MemoryStore},
    };
    use std::{sync::Arc, time::Duration};
    use tidemark_proto::Position;

    fn dimension(name: &str, sink_table: &str, source: &str) -> Dimension {
        Dimension {
            source: source.into(),
            sink_table: sink_table.into(),
            ..Dimension::new(name, TierKind::Full)
        }
    }

    /// The cells of a store that was loaded with these dimensions.
    async fn cells(dimensions: &[Dimension]) -> StateCells {
        let store = StorePool::new(Arc::new(MemoryStore::default()), 1, 8, Duration::from_secs(5));
        let checkpoint = Checkpoint { file: "binlog.000001".into(), offset: 4, gtid_set: String::new() };
        let floor = Position::try_new(1, 1, 4).unwrap();
        assert!(StateCells::create(&store, State::new("uuid".into(), checkpoint, floor)).await.unwrap());
        let mut cells = StateCells::read(&store).await.unwrap().unwrap();
        cells.take_over("test").await.unwrap();
        let known = |dimension: &Dimension| DimensionState {
            term: 0,
            definition: Definition::of(dimension),
            timeline: Timeline::new(floor),
            floor_place: ("binlog.000001".into(), 4),
            complete: true,
            loaded_rows: 0,
            loaded_to: None,
            repairing: None,
        };
        let known = dimensions.iter().map(|dimension| (dimension.name.to_string(), known(dimension)));
        cells.add(known.collect()).await.unwrap();
        cells
    }

    #[tokio::test]
    async fn a_dimension_that_is_as_it_was_is_admitted() {
        let a = dimension("a", "dim_a", "a");
        let cells = cells(std::slice::from_ref(&a)).await;
        assert!(check(&a, &cells).is_ok());
        assert!(check(&dimension("b", "dim_b", "b"), &cells).is_ok());
    }

    /// Fails without `retire`: rows deleted while nobody followed would live on.
    #[tokio::test]
    async fn a_dimension_that_comes_back_is_refused() {
        let a = dimension("a", "dim_a", "a");
        let mut cells = cells(std::slice::from_ref(&a)).await;
        cells.change(|state| retire(state, &[])).await.unwrap();
        let error = check(&a, &cells).unwrap_err().to_string();
        assert!(error.contains("[a] was taken out before"), "{error}");
        let error = check(&dimension("again", "dim_a", "a"), &cells).unwrap_err().to_string();
        assert!(error.contains("holds the rows of [a]"), "{error}");
    }

    /// Fails when `retire` looks at lazy dimensions too: their changes are not
    /// written, and the old rows would come back as the newest.
    #[tokio::test]
    async fn a_dimension_that_was_lazy_meanwhile_is_refused() {
        let a = dimension("a", "dim_a", "a");
        let mut cells = cells(std::slice::from_ref(&a)).await;
        let lazy = Dimension { lazy: true, ..a.clone() };
        cells.change(|state| retire(state, &[lazy])).await.unwrap();
        let error = check(&a, &cells).unwrap_err().to_string();
        assert!(error.contains("[a] was taken out before"), "{error}");
    }

    #[tokio::test]
    async fn another_definition_is_refused() {
        let cells = cells(&[dimension("a", "dim_a", "a")]).await;
        let error = check(&dimension("a", "dim_a", "other"), &cells).unwrap_err().to_string();
        assert!(error.contains("differ from what the store was loaded with"), "{error}");
    }

    #[tokio::test]
    async fn another_set_of_dimensions_is_told_by_name() {
        let (a, b) = (dimension("a", "dim_a", "a"), dimension("b", "dim_b", "b"));
        let cells = cells(&[a.clone(), b.clone()]).await;
        assert_eq!(difference(&[b, a.clone()], cells.state()), None);
        let difference = difference(&[a, dimension("c", "dim_c", "c")], cells.state());
        assert_eq!(difference.as_deref(), Some("new: c; taken out: b"));
    }
}
