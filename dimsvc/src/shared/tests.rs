//! What can be said of the shared tier without a server.

use super::*;
use crate::metrics::Metrics;

fn published(generation: u64, run_id: &str) -> SharedState {
    SharedState { generation, run_id: String::from(run_id) }
}

fn tier(url: &str) -> SharedTier {
    let config = Shared { url: String::from(url), ..Shared::default() };
    SharedTier::try_new(&config, "0123456789", Metrics::try_new().unwrap().shared).unwrap()
}

#[test]
fn without_an_address_there_is_no_tier() {
    let tier = tier("");
    tier.publish(&published(1, ""));
    assert!(tier.usable().is_none());
    assert!(!tier.status().in_use);
    assert!(tier.status().reason.contains("url"));
}

/// Take the comparison of generations out of `publish` to see it fail.
#[test]
fn what_was_published_before_does_not_come_back() {
    let tier = tier("redis://127.0.0.1:1");
    tier.publish(&published(3, "b"));
    tier.publish(&published(2, "a"));
    assert_eq!(tier.status().generation, 3);
}
