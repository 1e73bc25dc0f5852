//! Which tables a reader wants rows of.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Accepts or refuses tables by database and name, as the server spells them.
/// Rows of a table that is refused are skipped before they are decoded.
#[derive(Clone)]
pub struct TableFilter(Arc<Accepts>);

type Accepts = dyn Fn(&str, &str) -> bool + Send + Sync;

impl TableFilter {
    /// A filter by a function of database and table. The answer for a table
    /// must not change while a stream uses it.
    pub fn new(accepts: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(accepts))
    }

    /// Accepts these tables only.
    pub fn of(tables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut names: HashMap<String, HashSet<String>> = HashMap::new();
        for (database, table) in tables {
            names.entry(database).or_default().insert(table);
        }
        Self::new(move |database, table| names.get(database).is_some_and(|tables| tables.contains(table)))
    }

    /// Accepts no table: for a reader of transaction bounds alone.
    pub fn none() -> Self {
        Self::new(|_, _| false)
    }

    /// Whether rows of the table are wanted.
    pub fn accepts(&self, database: &str, table: &str) -> bool {
        (self.0)(database, table)
    }
}

impl fmt::Debug for TableFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TableFilter")
    }
}
