//! A client of dimsvc for tests: plain keys in, rows out.

use anyhow::{Context, Result};
use std::time::Duration;
use tidemark_proto::dim::v1::{
    Answer, AsOfEach, DescribeRequest, Latest, LookupRequest, Now, Position, ReadPoint, StatusRequest,
    StatusResponse, TableLookup, dimension_service_client::DimensionServiceClient, position::Place,
    read_point::Point,
};
use tonic::transport::{Channel, Endpoint};

const DEADLINE: Duration = Duration::from_secs(30);

/// A connection to one dimsvc.
#[derive(Clone, Debug)]
pub struct Dim(pub DimensionServiceClient<Channel>);

impl Dim {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(address: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(DEADLINE);
        let channel = endpoint.connect_timeout(DEADLINE).connect().await.context("connect to dimsvc")?;
        Ok(Self(DimensionServiceClient::new(channel).max_decoding_message_size(64 << 20)))
    }

    /// Looks keys up in one table, all at one read point.
    ///
    /// # Errors
    /// What dimsvc says.
    pub async fn lookup(&mut self, table: &str, keys: &[String], point: Point) -> Result<Vec<Answer>> {
        let lookup = TableLookup { table: table.into(), plain_keys: keys.to_vec(), ..Default::default() };
        self.request(lookup, point).await
    }

    /// Looks each key up as of its own packed position.
    ///
    /// # Errors
    /// What dimsvc says.
    pub async fn lookup_each(
        &mut self,
        table: &str,
        keys: &[String],
        positions: &[u64],
    ) -> Result<Vec<Answer>> {
        let lookup = TableLookup {
            table: table.into(),
            plain_keys: keys.to_vec(),
            positions: positions.to_vec(),
            ..Default::default()
        };
        self.request(lookup, Point::AsOfEach(AsOfEach {})).await
    }

    async fn request(&mut self, lookup: TableLookup, point: Point) -> Result<Vec<Answer>> {
        let read_point = Some(ReadPoint { point: Some(point) });
        let request = LookupRequest { id: 0, tables: vec![lookup], read_point, ..Default::default() };
        let response = self.0.lookup(request).await.context("look up")?.into_inner();
        Ok(response.tables.into_iter().next().context("one table was asked")?.answers)
    }

    /// Where a dimension's history begins.
    ///
    /// # Errors
    /// What dimsvc says.
    pub async fn floor(&mut self, table: &str) -> Result<tidemark_proto::Position> {
        let request = DescribeRequest { table: table.to_owned() };
        let described = self.0.describe(request).await.context("describe a dimension")?.into_inner();
        Ok(tidemark_proto::Position::from_packed(described.history_floor))
    }

    /// What dimsvc says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&mut self) -> Result<StatusResponse> {
        Ok(self.0.status(StatusRequest {}).await.context("ask for the status")?.into_inner())
    }
}

/// The newest rows.
pub fn latest() -> Point {
    Point::Latest(Latest {})
}

/// After everything that MySQL has committed by now.
pub fn now() -> Point {
    Point::AtLeast(Position { place: Some(Place::Now(Now {})) })
}

/// As the transaction with this GTID saw it.
pub fn as_of_gtid(gtid: &str) -> Point {
    Point::AsOf(Position { place: Some(Place::Gtid(gtid.to_owned())) })
}

/// As of a place as the server names it.
pub fn as_of_offset(place: &str) -> Point {
    Point::AsOf(Position { place: Some(Place::FileOffset(place.to_owned())) })
}

/// After the transaction with this GTID.
pub fn at_least_gtid(gtid: &str) -> Point {
    Point::AtLeast(Position { place: Some(Place::Gtid(gtid.to_owned())) })
}
