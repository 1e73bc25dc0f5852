//! Which dimensions a store may serve again: only those whose every change was
//! followed since their rows were loaded, and in the form they were loaded in.

use crate::{
    registry::Dimension,
    state::{Definition, State},
};
use anyhow::bail;

/// Checks a configured dimension against what the store knows.
///
/// # Errors
/// When its stored rows would be read wrongly, or are out of date.
pub(super) fn check(dimension: &Dimension, state: &State) -> anyhow::Result<()> {
    let (name, now) = (dimension.name.as_ref(), Definition::of(dimension));
    let anew = "load it anew under another section name with its own `sink_table`";
    let owner = state.dimensions.iter().find(|(_, known)| known.definition.sink_table == now.sink_table);
    if let Some((owner, _)) = owner.filter(|(owner, _)| *owner != name) {
        bail!(
            "dimensions.toml: [{name}]: `sink_table` {} holds the rows of [{owner}]; name another",
            now.sink_table
        );
    }
    let Some(known) = state.dimensions.get(name) else { return Ok(()) };
    if known.retired {
        bail!(
            "dimensions.toml: [{name}] was taken out before, and its changes were not followed since; {anew}"
        );
    }
    if now != known.definition {
        bail!(
            "dimensions.toml: [{name}]: source, key, columns, a column's type or `sink_table` differ from what the \
             store was loaded with; {anew}"
        );
    }
    Ok(())
}

/// Marks the dimensions that are no longer configured.
pub(super) fn retire(state: &mut State, configured: &[Dimension]) {
    for (name, known) in &mut state.dimensions {
        let gone = !configured.iter().any(|dimension| dimension.name.as_ref() == name);
        if gone && !known.retired {
            tracing::warn!(
                dimension = name,
                "no longer in dimensions.toml: its changes are not followed any more"
            );
            known.retired = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::TierKind,
        state::{Checkpoint, DimensionState},
    };

    fn dimension(name: &str, sink_table: &str, source: &str) -> Dimension {
        Dimension {
            name: name.into(),
            database: "db".into(),
            source: source.into(),
            sink_table: sink_table.into(),
            columns: Vec::new(),
            key: Vec::new(),
            key_columns: Vec::new(),
            tier: TierKind::Full,
            rows_estimate: 0,
        }
    }

    fn state(dimensions: &[Dimension]) -> State {
        let checkpoint = Checkpoint { file: "binlog.000001".into(), offset: 4, gtid_set: String::new() };
        let mut state = State::new("uuid".into(), checkpoint);
        for dimension in dimensions {
            let known = DimensionState {
                definition: Definition::of(dimension),
                floor: 4,
                floor_place: ("binlog.000001".into(), 4),
                complete: true,
                loaded_rows: 0,
                loaded_to: None,
                retired: false,
            };
            state.dimensions.insert(dimension.name.to_string(), known);
        }
        state
    }

    #[test]
    fn a_dimension_that_is_as_it_was_is_admitted() {
        let a = dimension("a", "dim_a", "a");
        assert!(check(&a, &state(std::slice::from_ref(&a))).is_ok());
        assert!(check(&dimension("b", "dim_b", "b"), &state(&[a])).is_ok());
    }

    /// Fails without `retire`: rows deleted while nobody followed would live on.
    #[test]
    fn a_dimension_that_comes_back_is_refused() {
        let a = dimension("a", "dim_a", "a");
        let mut state = state(std::slice::from_ref(&a));
        retire(&mut state, &[]);
        let error = check(&a, &state).unwrap_err().to_string();
        assert!(error.contains("[a] was taken out before"), "{error}");
        let error = check(&dimension("again", "dim_a", "a"), &state).unwrap_err().to_string();
        assert!(error.contains("holds the rows of [a]"), "{error}");
    }

    #[test]
    fn another_definition_is_refused() {
        let state = state(&[dimension("a", "dim_a", "a")]);
        let error = check(&dimension("a", "dim_a", "other"), &state).unwrap_err().to_string();
        assert!(error.contains("differ from what the store was loaded with"), "{error}");
    }
}
