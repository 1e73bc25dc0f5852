//! What is measured against: a database of its own with its dimensions, and a
//! dimsvc over it.

use anyhow::{Context, Result};
use std::{fs, time::Duration};
use tidemark_proto::dim::v1::{
    self, StatusRequest, StatusResponse, dimension_service_client::DimensionServiceClient, position::Place,
    read_point::Point,
};
use tidemark_tests::{
    isolation::Isolation,
    mysql::Session,
    process::Process,
    programs::Programs,
    stack::{Stack, repository},
};
use tonic::transport::{Channel, Endpoint};

const WAREHOUSE: &str = "benches/load/warehouse";
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// As the workers set them.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const FRAME_BYTES: u32 = 1 << 20;

/// Rows of `sku_info` and of `user_info`: ids from 0.
pub(crate) const ROWS: u64 = 100_000;

pub(crate) type Client = DimensionServiceClient<Channel>;

/// The database, the warehouse and the running service.
pub(crate) struct Ground {
    // Dropped in this order: the service before what it reads.
    pub(crate) dimsvc: Process,
    pub(crate) programs: Programs,
    pub(crate) isolation: Isolation,
}

impl Ground {
    pub(crate) async fn prepare(stack: &Stack) -> Result<Self> {
        let isolation = Isolation::new("bench", stack)?;
        let programs = isolation.programs(WAREHOUSE)?;
        let schema = repository().join(WAREHOUSE).join("schema.sql");
        let schema = fs::read_to_string(&schema).with_context(|| format!("read {}", schema.display()))?;
        isolation.session(&isolation.name)?.exec(&schema)?;
        let dimsvc = programs.dimsvc().await?;
        Ok(Self { dimsvc, programs, isolation })
    }

    pub(crate) fn session(&self) -> Result<Session> {
        self.isolation.session(&self.isolation.name)
    }

    /// A client on a connection of its own.
    pub(crate) async fn client(&self) -> Result<Client> {
        connect(&format!("http://{}", self.programs.settings.get("dimsvc.listen")?)).await
    }

    /// So many of them.
    pub(crate) async fn clients(&self, count: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(self.client().await?);
        }
        Ok(clients)
    }
}

/// Connects as the workers do.
pub(crate) async fn connect(address: &str) -> Result<Client> {
    let endpoint = Endpoint::from_shared(address.to_owned()).context("read an address")?;
    let channel = endpoint
        .connect_timeout(CALL_DEADLINE)
        .timeout(CALL_DEADLINE)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .connect()
        .await
        .with_context(|| format!("connect to {address}"))?;
    Ok(Client::new(channel).max_decoding_message_size(32 << 20))
}

/// Where dimsvc stands.
pub(crate) async fn status(client: &mut Client) -> Result<StatusResponse> {
    Ok(client.status(StatusRequest {}).await.context("ask dimsvc for its status")?.into_inner())
}

/// A read point that names a position, as in `read_point(Point::AtLeast, place)`.
pub(crate) fn read_point(point: fn(v1::Position) -> Point, place: Place) -> Option<v1::ReadPoint> {
    Some(v1::ReadPoint { point: Some(point(v1::Position { place: Some(place) })) })
}
