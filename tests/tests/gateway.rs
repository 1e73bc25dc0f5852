//! HBase's Thrift gateway is a process of its own: a test may kill it and start
//! it again while HBase runs on.

use anyhow::Result;
use tidemark_tests::{hbase, stack::Instance};

#[tokio::test]
async fn a_killed_gateway_comes_back_at_its_address_with_what_hbase_holds() -> Result<()> {
    let instance = Instance::start("hbase", &format!("gateway-{}", std::process::id()))?;
    let address = instance.stack.hbase.clone();
    let server = instance.pid("hbase")?;
    instance.kill("hbase_thrift").await?;
    assert!(!instance.stack.is_up("hbase"), "nobody may listen at {address}");
    instance.up()?;
    hbase::drop_tables(&address, "no_such_table")?;
    assert_eq!(instance.pid("hbase")?, server, "HBase itself ran on");
    Ok(())
}
