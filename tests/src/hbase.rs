//! Removing a test's tables from HBase.

use anyhow::{Context, Result};
use hbase_thrift::hbase::{HbaseSyncClient, THbaseSyncClient};
use std::{net::TcpStream, time::Duration};
use thrift::{
    protocol::{TBinaryInputProtocol, TBinaryOutputProtocol},
    transport::{TBufferedReadTransport, TBufferedWriteTransport, TIoChannel, TTcpChannel},
};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Removes every table of a namespace; a namespace without tables is fine.
///
/// # Errors
/// When the gateway at `host:port` cannot be reached or refuses.
pub fn drop_tables(address: &str, namespace: &str) -> Result<()> {
    let mut client = connect(address).with_context(|| format!("connect to the hbase gateway {address}"))?;
    let prefix = format!("{namespace}_");
    for table in client.get_table_names()? {
        if table.starts_with(prefix.as_bytes()) {
            if client.is_table_enabled(table.clone())? {
                client.disable_table(table.clone())?;
            }
            client.delete_table(table)?;
        }
    }
    Ok(())
}

fn connect(address: &str) -> Result<impl THbaseSyncClient + use<>> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let (read, write) = TTcpChannel::with_stream(socket).split()?;
    let input = TBinaryInputProtocol::new(TBufferedReadTransport::new(read), true);
    let output = TBinaryOutputProtocol::new(TBufferedWriteTransport::new(write), true);
    Ok(HbaseSyncClient::new(input, output))
}
