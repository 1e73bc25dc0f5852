//! What the SQL of a warehouse compiles to. The layers run these plans; they
//! know nothing of SQL.

use super::{expression::Expression, mistake::Place};
use std::time::Duration;

/// Where a plan was written, for messages.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub file: String,
    /// The table after FROM.
    pub place: Place,
}

/// One `INSERT INTO dwd_… SELECT … FROM fact JOIN …`: enrichment of a fact.
#[derive(Debug, Clone)]
pub struct DwdPlan {
    pub origin: Origin,
    /// The target table: `dwd_trade_order_detail`; `table` of its messages.
    pub name: String,
    /// The target topic.
    pub topic: String,
    /// The fact's table in MySQL.
    pub source: String,
    /// The fact's columns that the plan reads. Slot 0 of a [`super::Frame`]
    /// holds their tokens in this order.
    pub source_columns: Vec<String>,
    /// The part of WHERE that needs the fact alone: tested before any lookup.
    pub fact_filter: Option<Expression>,
    /// Lookups, level by level: a join's key needs only slots of earlier
    /// levels, so one level is one batched call.
    pub levels: Vec<Vec<Join>>,
    /// The part of WHERE that needs joined columns.
    pub joined_filter: Option<Expression>,
    /// The columns of the target, in order.
    pub outputs: Vec<Output>,
    /// The columns whose values make the key of the output message, by their
    /// place in `outputs`; empty: the fact message's own key is kept.
    pub key: Vec<usize>,
}

impl DwdPlan {
    /// Slots of a [`super::Frame`]: the fact and every join.
    pub fn slots(&self) -> usize {
        1 + self.levels.iter().map(Vec::len).sum::<usize>()
    }
}

/// One temporal join.
#[derive(Debug, Clone)]
pub struct Join {
    /// Where its row's columns go in a [`super::Frame`]: 1, 2, ….
    pub slot: usize,
    /// The dimension's name.
    pub dimension: String,
    /// Where the dimension is named, for messages.
    pub place: Place,
    /// Drops the fact when there is no row; else its columns are NULL.
    pub inner: bool,
    /// The dimension's key columns, in key order.
    pub key_columns: Vec<String>,
    /// A value for each key column.
    pub key: Vec<Expression>,
    /// The dimension's columns that the plan reads, in slot order.
    pub columns: Vec<String>,
    pub read: JoinRead,
}

/// At which point a join reads its dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinRead {
    /// As the fact's own transaction saw it.
    AsOfRow,
    /// `AS OF PROCTIME()`: the newest row at the time of the join. Not
    /// repeatable.
    Latest,
}

/// A named column of a result.
#[derive(Debug, Clone)]
pub struct Output {
    pub name: String,
    pub expression: Expression,
}

/// One `INSERT INTO dws_… SELECT … GROUP BY`: aggregation of a dwd table.
#[derive(Debug, Clone)]
pub struct DwsPlan {
    pub origin: Origin,
    /// The target table in ClickHouse.
    pub name: String,
    /// The dwd table that it reads, and its topic.
    pub source: String,
    pub topic: String,
    /// The source's columns that the plan reads: slot 0.
    pub source_columns: Vec<String>,
    pub window: Option<Tumble>,
    pub filter: Option<Expression>,
    /// Group columns beside the window, in order.
    pub group: Vec<Output>,
    pub aggregates: Vec<Aggregate>,
    /// The target's columns in the SELECT's order.
    pub columns: Vec<DwsColumn>,
    /// A hash of the plan's meaning: a table written by another plan is
    /// refused.
    pub hash: u64,
}

/// A column of a dws table: where its value comes from.
#[derive(Debug, Clone)]
pub enum DwsColumn {
    WindowStart(String),
    WindowEnd(String),
    /// Index into [`DwsPlan::group`].
    Group(usize),
    /// Index into [`DwsPlan::aggregates`].
    Aggregate(usize),
}

/// Tumbling event-time windows.
#[derive(Debug, Clone)]
pub struct Tumble {
    /// The event time: DATETIME text or a number of seconds.
    pub time: Expression,
    pub size: Duration,
}

/// An aggregate of a dws table.
#[derive(Debug, Clone)]
pub struct Aggregate {
    pub name: String,
    pub function: AggregateFunction,
    /// `None` for COUNT(*).
    pub argument: Option<Expression>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateFunction {
    Sum,
    Count,
    Min,
    Max,
}

impl AggregateFunction {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sum => "SUM",
            Self::Count => "COUNT",
            Self::Min => "MIN",
            Self::Max => "MAX",
        }
    }
}

/// One ads query: a named indicator with parameters.
#[derive(Debug, Clone)]
pub struct Indicator {
    /// The file's name without `.sql`: the path of its URL.
    pub name: String,
    /// What the file's leading comment says.
    pub description: String,
    pub parameters: Vec<Parameter>,
    /// The query, with `{name:Type}` where a parameter goes.
    pub sql: String,
}

/// A parameter of an indicator, from `-- param NAME TYPE = DEFAULT` lines.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: String,
    pub kind: ParameterKind,
    /// As in the file; `today` for dates is the day of the request in UTC.
    pub default: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    Date,
    Integer,
    Text,
}
