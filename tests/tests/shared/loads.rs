//! Loads that read a real Redis before the store.

use super::{
    audit::{loader, sku_alone},
    fixture::{Fixture, TABLE, key, row, version},
};
use anyhow::{Result, bail};
use dimsvc::{
    cache::{Found, Tier},
    dimension::TableRows,
    live::LiveDimension,
    load::{Batch, Begun, Loader},
    state::SharedState,
    store::{Store as _, memory::MemoryStore},
};
use std::sync::Arc;

/// The newest version of a key, which memory does not hold.
async fn load(loader: &Loader, sku: &Arc<LiveDimension>) -> Result<Found> {
    sku.cache.invalidate_all();
    let mut batch = Batch::default();
    let Begun::Awaited(waiter) = batch.begin(sku, &key(1)) else { bail!("it is resident") };
    loader.start(sku, batch);
    Ok(waiter.wait().await?)
}

/// Let `Loader::read_shared` use a session that was taken before the load was
/// registered, such as the first one ever, to see it fail.
#[tokio::test]
async fn a_load_reads_the_generation_that_was_known_when_it_began() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (sku, live) = sku_alone();
    let memory = Arc::new(MemoryStore::default());
    memory.create_table(TABLE)?;
    let write = |version| memory.write(&[TableRows { table: TABLE.into(), rows: vec![row(1, version)] }]);
    let loader = loader(&fixture, &live, Arc::clone(&memory))?;
    write(10)?;
    load(&loader, &sku).await?;
    loader.tasks.close();
    loader.tasks.wait().await;

    // The tier has not taken this update, and the overlay has let it go.
    write(20)?;
    let lacking = load(&loader, &sku).await?;
    assert_eq!((lacking.tier, lacking.answer.version()), (Tier::Shared, version(10)));
    fixture.tier.publish(&SharedState { generation: 2, ..fixture.published() });

    let newest = load(&loader, &sku).await?;
    assert_eq!((newest.tier, newest.answer.version()), (Tier::Store, version(20)));
    Ok(())
}
