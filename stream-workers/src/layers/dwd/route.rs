//! Which plans a table's rows go to, and which lookups their joins share.

use crate::warehouse::plan::{DwdPlan, Join, JoinRead};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::Arc;

/// The plans of the layer, arranged for running.
#[derive(Debug)]
pub(super) struct Routes {
    pub(super) plans: Vec<RoutedPlan>,
    /// The lookups of each level; joins of several plans that read the same
    /// columns of the same dimension share one.
    pub(super) levels: Vec<Vec<Target>>,
    by_table: HashMap<String, Vec<usize>, RandomState>,
}

/// A plan and, for every join of every level, its target in that level.
#[derive(Debug)]
pub(super) struct RoutedPlan {
    pub(super) plan: DwdPlan,
    targets: Vec<Vec<usize>>,
}

/// Columns of a dimension that are looked up together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) table: Arc<str>,
    pub(super) columns: Arc<[String]>,
    pub(super) read: JoinRead,
}

impl Routes {
    pub(super) fn new(plans: &[DwdPlan]) -> Self {
        let mut levels: Vec<Vec<Target>> = Vec::new();
        let mut by_table: HashMap<String, Vec<usize>, RandomState> = HashMap::default();
        let mut routed = Vec::with_capacity(plans.len());
        for (number, plan) in plans.iter().enumerate() {
            by_table.entry(plan.source.clone()).or_default().push(number);
            let of_level = |(level, joins): (usize, &Vec<Join>)| {
                if levels.len() <= level {
                    levels.push(Vec::new());
                }
                let targets = levels.get_mut(level);
                targets
                    .map(|targets| joins.iter().map(|join| target(targets, join)).collect())
                    .unwrap_or_default()
            };
            let targets = plan.levels.iter().enumerate().map(of_level).collect();
            routed.push(RoutedPlan { plan: plan.clone(), targets });
        }
        Self { plans: routed, levels, by_table }
    }

    /// The plans that read a table.
    pub(super) fn of_table(&self, table: &str) -> &[usize] {
        self.by_table.get(table).map_or(&[], Vec::as_slice)
    }

    pub(super) fn plan(&self, number: usize) -> Option<&DwdPlan> {
        self.plans.get(number).map(|routed| &routed.plan)
    }

    /// The joins of a plan in a level, each with its target there.
    pub(super) fn joins(&self, plan: usize, level: usize) -> impl Iterator<Item = (&Join, usize)> {
        let routed = self.plans.get(plan);
        let joins = routed.and_then(|routed| routed.plan.levels.get(level));
        let targets = routed.and_then(|routed| routed.targets.get(level));
        joins.into_iter().flatten().zip(targets.into_iter().flatten().copied())
    }
}

/// The place of a join's target, added if it is new.
fn target(targets: &mut Vec<Target>, join: &Join) -> usize {
    let wanted = Target {
        table: join.dimension.as_str().into(),
        columns: join.columns.clone().into(),
        read: join.read,
    };
    let found = targets.iter().position(|target| *target == wanted);
    found.unwrap_or_else(|| {
        targets.push(wanted);
        targets.len() - 1
    })
}
