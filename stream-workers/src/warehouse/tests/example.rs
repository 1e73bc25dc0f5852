//! The plans of `examples/gmall`.

use crate::warehouse::{
    Surroundings, Warehouse, compile_dws,
    plan::{AggregateFunction, DwdPlan, DwsColumn, JoinRead, ParameterKind},
};
use std::{path::Path, time::Duration};
use tidemark_proto::config::{Config, DEFAULT_TOML};

pub(crate) fn gmall() -> Warehouse {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gmall");
    Warehouse::load(&folder).unwrap_or_else(|mistakes| {
        panic!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn plan<'w>(warehouse: &'w Warehouse, name: &str) -> &'w DwdPlan {
    warehouse.dwd_plan(name).unwrap()
}

#[test]
fn the_example_loads_without_a_mistake() {
    let warehouse = gmall();
    let names = |list: Vec<&str>| list.join(" ");
    assert_eq!(
        names(warehouse.dwd.iter().map(|plan| plan.name.as_str()).collect()),
        "dwd_trade_order dwd_trade_order_detail dwd_trade_payment dwd_user_register"
    );
    assert_eq!(warehouse.dws.len(), 5);
    assert_eq!(
        names(warehouse.ads.iter().map(|indicator| indicator.name.as_str()).collect()),
        "gmv gmv_by_province top_categories user_registrations"
    );
}

#[test]
fn the_examples_settings_are_the_documented_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gmall/tidemark.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let differs = text.lines().zip(DEFAULT_TOML.lines()).find(|(ours, default)| ours != default);
    assert!(differs.is_none() && text.len() == DEFAULT_TOML.len(), "copy the default again: {differs:?}");
}

#[test]
fn joins_stand_on_the_level_after_what_their_keys_read() {
    let warehouse = gmall();
    let plan = plan(&warehouse, "dwd_trade_order_detail");
    let levels: Vec<Vec<&str>> =
        plan.levels.iter().map(|level| level.iter().map(|join| join.dimension.as_str()).collect()).collect();
    assert_eq!(
        levels,
        [
            vec!["order_info", "sku_info"],
            vec!["spu_info", "base_category3", "base_trademark", "base_province"],
            vec!["base_category2", "base_region"],
            vec!["base_category1"],
        ]
    );
    let joins: Vec<_> = plan.levels.iter().flatten().collect();
    assert!(joins.iter().all(|join| join.read == JoinRead::AsOfRow && join.key.len() == 1));
    assert_eq!(joins.iter().filter(|join| join.inner).count(), 1);
    let mut slots: Vec<_> = joins.iter().map(|join| join.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, (1..plan.slots()).collect::<Vec<_>>());
}

#[test]
fn a_plan_reads_only_the_columns_it_names() {
    let warehouse = gmall();
    let plan = plan(&warehouse, "dwd_trade_order");
    assert_eq!((plan.source.as_str(), plan.topic.as_str()), ("order_info", "dwd_trade_order"));
    assert_eq!(plan.source_columns, ["province_id", "id", "user_id", "total_amount", "create_time"]);
    assert_eq!(plan.levels[0][0].columns, ["region_id", "name"]);
    assert!(plan.fact_filter.is_some() && plan.joined_filter.is_none());
    assert_eq!(plan.outputs.iter().filter(|output| output.expression.as_column().is_some()).count(), 8);
}

#[test]
fn a_window_plan_says_time_size_group_and_aggregates() {
    let warehouse = gmall();
    let plan = warehouse.dws.iter().find(|plan| plan.name == "dws_trade_trademark_window").unwrap();
    assert_eq!(plan.window.as_ref().unwrap().size, Duration::from_secs(10));
    assert_eq!(
        plan.group.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(),
        ["tm_id", "tm_name"]
    );
    let functions: Vec<_> = plan.aggregates.iter().map(|aggregate| aggregate.function).collect();
    assert_eq!(functions, [AggregateFunction::Sum, AggregateFunction::Max, AggregateFunction::Count]);
    assert!(plan.aggregates[2].argument.is_none());
    assert!(matches!(&plan.columns[0], DwsColumn::WindowStart(name) if name == "window_start"));
    assert!(matches!(plan.columns[4], DwsColumn::Aggregate(0)));
}

#[test]
fn an_indicator_has_its_comment_and_its_parameters() {
    let warehouse = gmall();
    let indicator = warehouse.ads.iter().find(|indicator| indicator.name == "top_categories").unwrap();
    assert_eq!(indicator.description, "The categories of a day that sold most, by amount.");
    let parameters: Vec<_> = indicator
        .parameters
        .iter()
        .map(|parameter| (parameter.name.as_str(), parameter.kind, parameter.default.as_deref()))
        .collect();
    assert_eq!(
        parameters,
        [("date", ParameterKind::Date, Some("today")), ("limit", ParameterKind::Integer, Some("10"))]
    );
    assert!(indicator.sql.starts_with("SELECT") && indicator.sql.ends_with("LIMIT {limit:Integer}"));
}

#[test]
fn the_hash_is_of_the_meaning_and_stays() {
    let warehouse = gmall();
    let hash = |sql: &str| compile_dws("dws_a.sql", sql, &warehouse.dwd).unwrap().hash;
    let written =
        hash("INSERT INTO dws_a SELECT gender, COUNT(*) AS n FROM dwd_user_register GROUP BY gender");
    let spaced = hash(
        "-- users\nINSERT  INTO dws_a\nselect gender, count( * ) AS n /* all */ from dwd_user_register group by gender;",
    );
    assert_eq!(written, spaced);
    // Tables on disk carry this number: a new form of the text would refuse them.
    assert_eq!(written, HASH);
    for other in [
        "INSERT INTO dws_a SELECT gender, COUNT(*) AS m FROM dwd_user_register GROUP BY gender",
        "INSERT INTO dws_a SELECT gender, COUNT(user_id) AS n FROM dwd_user_register GROUP BY gender",
        "INSERT INTO dws_a SELECT gender, COUNT(*) AS n FROM dwd_user_register WHERE gender = 'F' GROUP BY gender",
        "INSERT INTO dws_a SELECT user_level, COUNT(*) AS n FROM dwd_user_register GROUP BY user_level",
    ] {
        assert_ne!(hash(other), written, "{other}");
    }
}

const HASH: u64 = 5_260_743_668_672_339_300;

#[test]
fn the_topic_has_the_warehouses_prefix() {
    let mut config = Config::default();
    config.kafka.topic_prefix = String::from("test_");
    let dimensions = gmall().dimensions;
    let sql = "INSERT INTO dwd_u SELECT u.id FROM user_info u WHERE row_kind = 'insert'";
    let around = Surroundings { config: &config, dimensions: &dimensions };
    assert_eq!(crate::warehouse::compile_dwd("dwd_u.sql", sql, around).unwrap().topic, "test_dwd_u");
}
