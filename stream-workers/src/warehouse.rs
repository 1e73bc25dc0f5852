//! A warehouse: the folder that people write and review like code.
//!
//! `tidemark.toml` and `dimensions.toml` are settings, `dwd/*.sql` and
//! `dws/*.sql` compile to plans, `ads/*.sql` are indicators. Loading needs no
//! service and reports every mistake of every file at once; [`types`] then
//! holds the plans against the types of the real tables.

mod compile;
pub mod decimal;
pub mod expression;
mod indicator;
mod load;
mod mistake;
mod parse;
pub mod plan;
#[cfg(test)]
mod tests;
pub mod types;

pub use compile::{Surroundings, compile_dwd, compile_dws};
pub use decimal::Decimal;
pub use expression::{EvaluateError, Expression, Frame, Value};
pub(crate) use indicator::outside_quotes;
pub use indicator::read_indicator;
pub(crate) use mistake::hint;
pub use mistake::{Mistake, Place};

use plan::{DwdPlan, DwsPlan, Indicator};
use std::{collections::BTreeSet, path::PathBuf};
use tidemark_proto::config::{Config, Dimensions};

/// All of a warehouse folder, checked and compiled.
#[derive(Debug, Clone)]
pub struct Warehouse {
    pub folder: PathBuf,
    pub config: Config,
    pub dimensions: Dimensions,
    pub dwd: Vec<DwdPlan>,
    pub dws: Vec<DwsPlan>,
    pub ads: Vec<Indicator>,
}

impl Warehouse {
    /// The tables of MySQL that plans and dimensions read.
    pub fn source_tables(&self) -> BTreeSet<&str> {
        let facts = self.dwd.iter().map(|plan| plan.source.as_str());
        facts.chain(self.dimensions.iter().map(|(name, dimension)| dimension.source_table(name))).collect()
    }

    /// The dwd plan of that name.
    pub fn dwd_plan(&self, name: &str) -> Option<&DwdPlan> {
        self.dwd.iter().find(|plan| plan.name == name)
    }
}
