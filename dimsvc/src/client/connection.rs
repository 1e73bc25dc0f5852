//! The connection to one service, and its calls under one deadline each.

use super::{args::Server, failure::Failure};
use std::time::Duration;
use tidemark_proto::dim::v1::{
    admin_service_client::AdminServiceClient, dimension_service_client::DimensionServiceClient,
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

/// A connection is made in this time, or the service is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// So long a silent connection is believed.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The greatest message that is taken.
const MESSAGE_BYTES: usize = 256 << 20;

/// Both services of one address.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) dimensions: DimensionServiceClient<Channel>,
    pub(super) admin: AdminServiceClient<Channel>,
    timeout: Duration,
}

impl Connection {
    pub(super) async fn open(server: &Server) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(server.server.clone())
            .map_err(|error| Failure::Usage(format!("--server {}: {error}", server.server)))?
            .connect_timeout(CONNECT.min(server.timeout))
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|error| Failure::Unreachable {
            server: server.server.clone(),
            reason: innermost(&error),
        })?;
        Ok(Self {
            dimensions: DimensionServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES),
            admin: AdminServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES),
            timeout: server.timeout,
        })
    }

    /// A request that tells the service its deadline.
    pub(super) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Waits for the beginning of a stream, whose whole length has no deadline.
    pub(super) async fn begin<S>(
        &self,
        call: impl Future<Output = Result<Response<S>, Status>>,
    ) -> Result<S, Failure> {
        let begun = tokio::time::timeout(self.timeout, call).await;
        Ok(begun.map_err(|_| Status::deadline_exceeded("the service did not begin to answer"))??.into_inner())
    }
}

/// The cause behind "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
