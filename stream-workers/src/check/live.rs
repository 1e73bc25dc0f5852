//! The part of a check that asks the services. All are asked at once, each
//! with a short deadline: a wrong port shall be told within seconds.

use super::Report;
use crate::{
    kafka::{Topics, TopicsError},
    sink::clickhouse::{Clickhouse, ClickhouseError},
    warehouse::{
        Mistake, Place, Warehouse, hint,
        plan::{DwdPlan, Join},
        types::{Catalog, CatalogError},
    },
};
use std::{collections::BTreeMap, error::Error, fs, time::Duration};
use tidemark_proto::{
    config::DimensionConfig,
    dim::v1::{
        DescribeRequest, DescribeResponse, ListDimensionsRequest,
        dimension_service_client::DimensionServiceClient,
    },
};
use tonic::{Status, transport::Endpoint};

/// The longest that a check waits for one service.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(4);
const SETTINGS: &str = "tidemark.toml";
const DIMENSIONS: &str = "dimensions.toml";

pub(super) async fn check(warehouse: &Warehouse, report: &mut Report) {
    let (catalog, described, kafka, clickhouse) =
        tokio::join!(catalog(warehouse), describe_all(warehouse), kafka(warehouse), clickhouse(warehouse));
    let mut seen = Seen { warehouse, report };
    seen.mysql(catalog);
    seen.dimsvc(described);
    seen.kafka(kafka);
    seen.clickhouse(clickhouse);
}

async fn catalog(warehouse: &Warehouse) -> Result<Catalog, CatalogError> {
    let mut mysql = warehouse.config.mysql.clone();
    mysql.connect_timeout_ms = shortened(mysql.connect_timeout_ms);
    mysql.query_timeout_ms = shortened(mysql.query_timeout_ms);
    Catalog::fetch(&mysql, warehouse.source_tables()).await
}

/// Dimensions by name, as dimsvc describes them.
async fn describe_all(warehouse: &Warehouse) -> Result<BTreeMap<String, DescribeResponse>, Status> {
    let endpoint = Endpoint::from_shared(warehouse.config.workers.dimsvc.clone())
        .map_err(|error| Status::invalid_argument(chain(&error)))?
        .connect_timeout(SERVICE_TIMEOUT)
        .timeout(SERVICE_TIMEOUT);
    let channel = endpoint.connect().await.map_err(|error| Status::unavailable(chain(&error)))?;
    let mut client = DimensionServiceClient::new(channel);
    let listed = client.list_dimensions(ListDimensionsRequest {}).await?.into_inner();
    let mut described = BTreeMap::new();
    for summary in listed.dimensions {
        // Others' dimensions are none of this folder's business.
        if warehouse.dimensions.contains_key(&summary.name) {
            let request = DescribeRequest { table: summary.name.clone() };
            described.insert(summary.name, client.describe(request).await?.into_inner());
        }
    }
    Ok(described)
}

async fn kafka(warehouse: &Warehouse) -> Result<(), TopicsError> {
    let mut kafka = warehouse.config.kafka.clone();
    kafka.timeout_ms = shortened(kafka.timeout_ms);
    Topics::try_new(&kafka)?.partitions(&[]).await.map(drop)
}

async fn clickhouse(warehouse: &Warehouse) -> Result<(), ClickhouseError> {
    let mut clickhouse = warehouse.config.clickhouse.clone();
    clickhouse.timeout_ms = shortened(clickhouse.timeout_ms);
    Clickhouse::new(&clickhouse).execute("SELECT 1 FORMAT Null").await
}

fn shortened(timeout_ms: u64) -> u64 {
    timeout_ms.min(u64::try_from(SERVICE_TIMEOUT.as_millis()).unwrap_or(u64::MAX))
}

/// Judges the answers.
struct Seen<'s> {
    warehouse: &'s Warehouse,
    report: &'s mut Report,
}

impl Seen<'_> {
    fn mysql(&mut self, catalog: Result<Catalog, CatalogError>) {
        let mysql = &self.warehouse.config.mysql;
        let address = format!("{}:{}", mysql.host, mysql.port);
        let catalog = match catalog {
            Ok(catalog) => catalog,
            Err(error @ CatalogError::UnknownType { .. }) => {
                return self.settings_mistake("mysql", "database", format!("{}: {error}", mysql.database));
            }
            Err(error) => {
                let message =
                    format!("MySQL at {address} does not answer ({error}): start it, or correct [mysql]");
                return self.settings_mistake("mysql", "port", message);
            }
        };
        let before = self.report.mistakes.len();
        for (name, dimension) in &self.warehouse.dimensions {
            self.source_columns(name, dimension, &catalog);
        }
        if let Err(mut found) = self.warehouse.types(&catalog) {
            self.report.mistakes.append(&mut found);
        }
        if self.report.mistakes.len() == before {
            let tables = catalog.tables().count();
            self.report
                .note("mysql", format!("{address}/{}: {tables} tables have the columns", mysql.database));
        }
    }

    /// The source of a dimension exists and has the columns of its section.
    fn source_columns(&mut self, name: &str, dimension: &DimensionConfig, catalog: &Catalog) {
        let table = dimension.source_table(name);
        let Some(known) = catalog.columns(table) else {
            let database = &self.warehouse.config.mysql.database;
            let nearest = hint(table, catalog.tables());
            return self.dimension_mistake(name, &format!("MySQL has no table {database}.{table}{nearest}"));
        };
        for column in dimension.key.iter().chain(&dimension.columns) {
            if !known.iter().any(|(known, _)| known == column) {
                let nearest = hint(column, known.iter().map(|(known, _)| known.as_str()));
                self.dimension_mistake(name, &format!("{table} has no column `{column}`{nearest}"));
            }
        }
    }

    fn dimsvc(&mut self, described: Result<BTreeMap<String, DescribeResponse>, Status>) {
        let address = &self.warehouse.config.workers.dimsvc;
        let described = match described {
            Ok(described) => described,
            Err(status) => {
                let message = format!(
                    "dimsvc at {address} does not answer ({}): start it, or correct the address",
                    status.message()
                );
                return self.settings_mistake("workers", "dimsvc", message);
            }
        };
        let before = self.report.mistakes.len();
        for (name, dimension) in &self.warehouse.dimensions {
            match described.get(name) {
                None => self.dimension_mistake(
                    name,
                    &format!("dimsvc at {address} does not serve it: restart dimsvc with this folder"),
                ),
                Some(served) => self.served(name, dimension, served),
            }
        }
        for plan in &self.warehouse.dwd {
            for join in plan.levels.iter().flatten() {
                if let Some(served) = described.get(&join.dimension) {
                    self.join(plan, join, served);
                }
            }
        }
        if self.report.mistakes.len() == before {
            let loading = described.values().filter(|dimension| !dimension.complete).count();
            let loading = if loading == 0 { String::new() } else { format!(", {loading} still loading") };
            self.report.note("dimsvc", format!("{address}: serves {} dimensions{loading}", described.len()));
        }
    }

    fn served(&mut self, name: &str, dimension: &DimensionConfig, served: &DescribeResponse) {
        let source = format!("{}.{}", self.warehouse.config.mysql.database, dimension.source_table(name));
        if served.source_table != source {
            let message = format!(
                "dimsvc keeps {} under this name, not {source}: restart dimsvc with this folder",
                served.source_table
            );
            self.dimension_mistake(name, &message);
        } else if !dimension.key.is_empty() && dimension.key != served.key_columns {
            let (here, there) = (dimension.key.join(", "), served.key_columns.join(", "));
            let message =
                format!("the key is ({here}) here and ({there}) in dimsvc: restart dimsvc with this folder");
            self.dimension_mistake(name, &message);
        }
    }

    /// A join's key and columns are what dimsvc has.
    fn join(&mut self, plan: &DwdPlan, join: &Join, served: &DescribeResponse) {
        let mut add = |message| {
            let (file, place) = (plan.origin.file.clone(), Some(join.place));
            self.report.mistakes.push(Mistake { file, place, message });
        };
        if join.key_columns != served.key_columns {
            let (here, there) = (join.key_columns.join(", "), served.key_columns.join(", "));
            add(format!("{} is looked up by ({there}), ON gives ({here})", join.dimension));
        }
        for column in &join.columns {
            if !served.columns.iter().any(|known| known.name == *column) {
                let message = format!(
                    "dimsvc does not keep {}.{column}: restart dimsvc with this folder",
                    join.dimension
                );
                add(message);
            }
        }
    }

    fn kafka(&mut self, answer: Result<(), TopicsError>) {
        let brokers = &self.warehouse.config.kafka.brokers;
        match answer {
            Ok(()) => self.report.note("kafka", format!("{brokers}: answers")),
            Err(error) => {
                let message = format!("{}: start Kafka, or correct the address", chain(&error));
                self.settings_mistake("kafka", "brokers", message);
            }
        }
    }

    fn clickhouse(&mut self, answer: Result<(), ClickhouseError>) {
        let url = &self.warehouse.config.clickhouse.url;
        match answer {
            Ok(()) => self.report.note("clickhouse", format!("{url}: answers")),
            Err(error) => {
                let message = format!("{} ({url}): start ClickHouse, or correct [clickhouse]", chain(&error));
                self.settings_mistake("clickhouse", "url", message);
            }
        }
    }

    fn settings_mistake(&mut self, section: &str, key: &str, message: String) {
        self.file_mistake(SETTINGS, section, key, message);
    }

    fn dimension_mistake(&mut self, name: &str, message: &str) {
        self.file_mistake(DIMENSIONS, name, "", format!("[{name}]: {message}"));
    }

    fn file_mistake(&mut self, file: &str, section: &str, key: &str, message: String) {
        let path = self.warehouse.folder.join(file);
        let place = fs::read_to_string(&path).ok().and_then(|text| place_of_key(&text, section, key));
        self.report.mistakes.push(Mistake { file: path.display().to_string(), place, message });
    }
}

/// Where a file says a key of a section; the section when it does not.
pub(super) fn place_of_key(text: &str, section: &str, key: &str) -> Option<Place> {
    let header = format!("[{section}]");
    let mut found = None;
    for (line, number) in text.lines().zip(1u32..) {
        let line = line.trim();
        if line == header {
            found = Some(Place { line: number, column: 1 });
        } else if found.is_some() && line.starts_with('[') {
            break;
        } else if found.is_some() && line.split('=').next().is_some_and(|name| name.trim() == key) {
            return Some(Place { line: number, column: 1 });
        }
    }
    found
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}
