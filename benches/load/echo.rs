//! A bare tonic server that gives the same answer to every lookup: what gRPC
//! itself costs for a payload. A process of its own, as dimsvc is one.

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::Arc,
    task::{Context, Poll},
};
use tidemark_proto::{
    codec::ExactCodec,
    dim::v1::{LookupRequest, LookupResponse},
};
use tokio::{net::TcpListener, runtime::Builder};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};

/// On which runtime the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Threads {
    /// As `#[tokio::main]` makes it.
    WorkStealing,
    /// One thread, for all connections.
    One,
}

/// A running echo server; it ends with this value.
pub(crate) struct Echo {
    process: Child,
    pub(crate) address: String,
}

impl Echo {
    /// Starts this program again, as a server that answers `payload`, an encoded
    /// response.
    pub(crate) fn start(threads: Threads, payload: &[u8]) -> Result<Self> {
        let threads = threads.to_possible_value().context("name the threads")?;
        let mut process = Command::new(std::env::current_exe().context("find this program")?)
            .args(["--echo", threads.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start an echo server")?;
        process.stdin.take().context("open its input")?.write_all(payload).context("give it its answer")?;
        let mut address = String::new();
        let said = process.stdout.take().context("open its output")?;
        BufReader::new(said).read_line(&mut address).context("read its address")?;
        let address = address.trim().to_owned();
        ensure!(!address.is_empty(), "the echo server did not start");
        Ok(Self { process, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Serves until it is killed: reads its answer from standard input, says its
/// address on standard output.
pub(crate) fn run(threads: Threads) -> Result<()> {
    let mut payload = Vec::new();
    std::io::stdin().read_to_end(&mut payload).context("read the answer")?;
    let answer = decode(&payload)?;
    let runtime = match threads {
        Threads::WorkStealing => Builder::new_multi_thread().enable_all().build(),
        Threads::One => Builder::new_current_thread().enable_all().build(),
    };
    runtime.context("start a runtime")?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?).context("say the address")?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let service = EchoService { answer: Arc::new(answer) };
        Server::builder().add_service(service).serve_with_incoming(incoming).await.context("serve")
    })
}

fn decode(payload: &[u8]) -> Result<LookupResponse> {
    prost::Message::decode(payload).context("understand the answer")
}

#[derive(Clone)]
struct EchoService {
    answer: Arc<LookupResponse>,
}

impl NamedService for EchoService {
    const NAME: &'static str = "tidemark.dim.v1.DimensionService";
}

impl UnaryService<LookupRequest> for EchoService {
    type Response = LookupResponse;
    type Future = Ready<Result<Response<LookupResponse>, Status>>;

    fn call(&mut self, _: Request<LookupRequest>) -> Self::Future {
        ready(Ok(Response::new(LookupResponse::clone(&self.answer))))
    }
}

impl Service<http::Request<Body>> for EchoService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answering = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ExactCodec::<LookupResponse, LookupRequest>::default());
            Ok(grpc.unary(answering, request).await)
        })
    }
}
