//! The column types of dwd and dws tables.

use super::{
    Catalog, SqlType, Typed,
    infer::{Inference, Slots},
};
use crate::warehouse::{
    Warehouse,
    expression::{Expression, Node},
    mistake::{Mistake, Mistakes, Place, hint},
    plan::{Aggregate, AggregateFunction, DwdPlan, DwsPlan, Join},
};
use std::collections::BTreeMap;
use tidemark_proto::config::Dimensions;

/// Types of a dws table, in the order of its plan's lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DwsTypes {
    pub group: Vec<Typed>,
    /// Of each aggregate's value. Of a group without any value SUM, MIN and
    /// MAX are NULL all the same.
    pub aggregates: Vec<SqlType>,
}

/// Types of all of a warehouse's tables, by name.
#[derive(Debug, Clone, Default)]
pub struct WarehouseTypes {
    pub dwd: BTreeMap<String, Vec<Typed>>,
    pub dws: BTreeMap<String, DwsTypes>,
}

impl Warehouse {
    /// Types of every table of the warehouse.
    ///
    /// # Errors
    /// All mistakes that only the real tables show.
    pub fn types(&self, catalog: &Catalog) -> Result<WarehouseTypes, Vec<Mistake>> {
        let (mut types, mut mistakes) = (WarehouseTypes::default(), Vec::new());
        for plan in &self.dwd {
            match dwd_types(plan, &self.dimensions, catalog) {
                Ok(columns) => drop(types.dwd.insert(plan.name.clone(), columns)),
                Err(mut found) => mistakes.append(&mut found),
            }
        }
        for plan in &self.dws {
            let source = self.dwd_plan(&plan.source).zip(types.dwd.get(&plan.source));
            match source.map(|(source, columns)| dws_types(plan, source, columns)) {
                Some(Ok(columns)) => drop(types.dws.insert(plan.name.clone(), columns)),
                Some(Err(mut found)) => mistakes.append(&mut found),
                // The source's own mistakes are told already.
                None => {}
            }
        }
        if mistakes.is_empty() { Ok(types) } else { Err(mistakes) }
    }
}

/// Types of a dwd table's columns, in the order of the plan's outputs.
///
/// # Errors
/// Unknown tables and columns, and expressions of unlike types.
pub fn dwd_types(
    plan: &DwdPlan,
    dimensions: &Dimensions,
    catalog: &Catalog,
) -> Result<Vec<Typed>, Vec<Mistake>> {
    let mut mistakes = Mistakes::of(&plan.origin.file);
    let joins = || plan.levels.iter().flatten();
    let mut slots: Slots = vec![Vec::new(); plan.slots()];
    let uses = uses_of(plan);
    let mut fill = |slot: usize, table: Table<'_>, mistakes: &mut Mistakes| {
        let columns = table.columns(&uses, catalog, mistakes);
        if let Some(place) = slots.get_mut(slot) {
            *place = columns;
        }
    };
    let fact = Table {
        slot: 0,
        name: &plan.source,
        place: plan.origin.place,
        columns: &plan.source_columns,
        outer: false,
    };
    fill(0, fact, &mut mistakes);
    for join in joins() {
        let source = dimensions
            .get(&join.dimension)
            .map_or(join.dimension.as_str(), |d| d.source_table(&join.dimension));
        let table = Table {
            slot: join.slot,
            name: source,
            place: join.place,
            columns: &join.columns,
            outer: !join.inner,
        };
        fill(join.slot, table, &mut mistakes);
    }
    let mut inference = Inference { slots: &slots, mistakes: &mut mistakes };
    for join in joins() {
        let source = dimensions
            .get(&join.dimension)
            .map_or(join.dimension.as_str(), |d| d.source_table(&join.dimension));
        check_key(join, source, catalog, &mut inference);
    }
    for filter in plan.fact_filter.iter().chain(&plan.joined_filter) {
        inference.check_condition(filter);
    }
    let types: Vec<_> = plan.outputs.iter().map(|output| inference.of_output(&output.expression)).collect();
    mistakes.finish(types.into_iter().collect())
}

/// A table of a plan and the columns that it reads.
struct Table<'t> {
    slot: usize,
    name: &'t str,
    place: Place,
    columns: &'t [String],
    /// Without a row its columns are NULL.
    outer: bool,
}

impl Table<'_> {
    fn columns(&self, uses: &Uses, catalog: &Catalog, mistakes: &mut Mistakes) -> Vec<Option<Typed>> {
        let Some(known) = catalog.columns(self.name) else {
            let message = format!("MySQL has no table `{}`{}", self.name, hint(self.name, catalog.tables()));
            mistakes.add(self.place, message);
            return vec![None; self.columns.len()];
        };
        let typed = |(at, wanted): (usize, &String)| {
            if let Some((_, (sql_type, nullable))) = known.iter().find(|(name, _)| name == wanted) {
                return Some((*sql_type, *nullable || self.outer));
            }
            let place = uses.get(&(self.slot, at)).copied().unwrap_or(self.place);
            let nearest = hint(wanted, known.iter().map(|(name, _)| name.as_str()));
            mistakes.refuse(place, format!("{} has no column `{wanted}`{nearest}", self.name))
        };
        self.columns.iter().enumerate().map(typed).collect()
    }
}

/// Where each (slot, column) is named first.
type Uses = BTreeMap<(usize, usize), Place>;

fn uses_of(plan: &DwdPlan) -> Uses {
    let mut uses = Uses::new();
    let keys = plan.levels.iter().flatten().flat_map(|join| &join.key);
    let outputs = plan.outputs.iter().map(|output| &output.expression);
    for expression in keys.chain(outputs).chain(&plan.fact_filter).chain(&plan.joined_filter) {
        note_uses(expression, &mut uses);
    }
    uses
}

fn note_uses(expression: &Expression, uses: &mut Uses) {
    if let Node::Column { slot, column } = expression.node {
        let first = uses.entry((slot, column)).or_insert(expression.place);
        *first = expression.place.min(*first);
    }
    for part in expression.parts() {
        note_uses(part, uses);
    }
}

/// A key must be of its column's own kind: text and numbers have no common
/// canonical form.
fn check_key(join: &Join, source: &str, catalog: &Catalog, inference: &mut Inference<'_>) {
    let Some(columns) = catalog.columns(source) else { return };
    for (name, value) in join.key_columns.iter().zip(&join.key) {
        let Some((_, (sql_type, _))) = columns.iter().find(|(column, _)| column == name) else {
            let nearest = hint(name, columns.iter().map(|(column, _)| column.as_str()));
            inference.mistakes.add(value.place, format!("{source} has no column `{name}`{nearest}"));
            continue;
        };
        inference.check_key(value, *sql_type);
    }
}

/// Types of a dws table over its source's.
///
/// # Errors
/// Aggregates over what they cannot aggregate, and expressions of unlike types.
pub fn dws_types(plan: &DwsPlan, source: &DwdPlan, source_types: &[Typed]) -> Result<DwsTypes, Vec<Mistake>> {
    let mut mistakes = Mistakes::of(&plan.origin.file);
    let typed = |wanted: &String| {
        let at = source.outputs.iter().position(|output| output.name == *wanted)?;
        source_types.get(at).copied()
    };
    let slots: Slots = vec![plan.source_columns.iter().map(typed).collect()];
    let mut inference = Inference { slots: &slots, mistakes: &mut mistakes };
    if let Some(window) = &plan.window {
        let time = inference.of_output(&window.time);
        if let Some((sql_type, _)) = time.filter(|(sql_type, _)| !is_time(*sql_type)) {
            let message = format!("a window needs a DATETIME or whole seconds, this is {sql_type}");
            inference.mistakes.add(window.time.place, message);
        }
    }
    if let Some(filter) = &plan.filter {
        inference.check_condition(filter);
    }
    let group: Vec<_> = plan.group.iter().map(|output| inference.of_output(&output.expression)).collect();
    let aggregates: Vec<_> =
        plan.aggregates.iter().map(|aggregate| aggregate_type(aggregate, &mut inference)).collect();
    let group: Option<Vec<_>> = group.into_iter().collect();
    let types = group.zip(aggregates.into_iter().collect());
    mistakes.finish(types.map(|(group, aggregates)| DwsTypes { group, aggregates }))
}

const fn is_time(sql_type: SqlType) -> bool {
    matches!(sql_type, SqlType::DateTime { .. } | SqlType::Integer { .. })
}

fn aggregate_type(aggregate: &Aggregate, inference: &mut Inference<'_>) -> Option<SqlType> {
    let Some(argument) = &aggregate.argument else { return Some(SqlType::BIGINT) };
    let (sql_type, _) = inference.of_output(argument)?;
    let mistake = match (aggregate.function, sql_type) {
        (AggregateFunction::Count, _) => return Some(SqlType::BIGINT),
        (AggregateFunction::Sum, SqlType::Decimal { scale, .. }) => {
            return Some(SqlType::Decimal { precision: 38, scale });
        }
        (AggregateFunction::Sum, SqlType::Integer { .. } | SqlType::Bool) => {
            return Some(SqlType::Decimal { precision: 38, scale: 0 });
        }
        (AggregateFunction::Sum, SqlType::Double) => {
            "SUM of a DOUBLE is not exact: CAST it AS DECIMAL(p, s)".to_owned()
        }
        (AggregateFunction::Sum, other) => format!("SUM needs numbers, this is {other}"),
        (
            AggregateFunction::Min | AggregateFunction::Max,
            SqlType::Json | SqlType::Bytes | SqlType::Double,
        ) => {
            format!("MIN and MAX have no order for {sql_type}")
        }
        (AggregateFunction::Min | AggregateFunction::Max, other) => return Some(other),
    };
    inference.mistakes.refuse(argument.place, mistake)
}
