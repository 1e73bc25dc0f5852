//! Follows the binlog, writes what it says, and moves the place.

use super::{
    message::{Format, Outbox, TransactionWriter},
    place::{Place, Places},
};
use crate::{
    metrics::{Blocked, LayerMetrics},
    sink::kafka::{KafkaSink, Message},
};
use anyhow::Context as _;
use futures_util::FutureExt as _;
use std::{sync::Arc, time::Duration};
use tidemark_binlog::{BinlogPlace, BinlogStream, Event, Source, StreamError, StreamOptions, TableFilter};
use tidemark_proto::{Position, config::Config};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The server's sign of life, and how long to go without one.
const HEARTBEAT: Duration = Duration::from_secs(2);
const LIVENESS: Duration = Duration::from_secs(20);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How much is sent at once. More would only make a crash send more again.
const ROWS_AT_ONCE: usize = 10_000;
const BYTES_AT_ONCE: usize = 8 << 20;
/// How often the place is kept: a crash sends again what came after it.
const PLACE_EVERY: Duration = Duration::from_secs(1);

/// Where rows go, and how.
pub(super) struct Outlet {
    pub(super) sink: KafkaSink,
    pub(super) places: Places,
    pub(super) topic: String,
    pub(super) format: Format,
    pub(super) metrics: LayerMetrics,
}

/// The layer's loop.
pub(super) struct Capture {
    source: Source,
    options: StreamOptions,
    outlet: Outlet,
    outbox: Outbox,
    /// All before it is acknowledged or in the outbox.
    place: Place,
    end: Position,
    saved: Position,
    saved_at: Instant,
    rows_since_saved: usize,
    /// How long a stop waits for rows that are being sent.
    drain: Duration,
}

impl Capture {
    pub(super) fn try_new(
        config: &Config,
        source: Source,
        place: Place,
        outlet: Outlet,
    ) -> anyhow::Result<Self> {
        let from = BinlogPlace { file: place.file.clone(), offset: place.offset };
        let end = from.position(place.epoch)?;
        let options = StreamOptions {
            server_id: config.ods.server_id,
            epoch: place.epoch,
            from,
            tables: tables(config),
            transaction_bytes_max: config.ods.transaction_bytes_max,
            heartbeat: HEARTBEAT,
            liveness: LIVENESS,
        };
        Ok(Self {
            source,
            options,
            outlet,
            outbox: Outbox::default(),
            place,
            end,
            saved: end,
            saved_at: Instant::now(),
            rows_since_saved: 0,
            drain: Duration::from_millis(config.workers.drain_timeout_ms),
        })
    }

    /// Captures until the process stops; a lost stream is opened again where it
    /// ended.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut backoff = BACKOFF_FIRST;
        let drain = self.drain;
        loop {
            let begin = self.end;
            let overdue = async {
                shutdown.cancelled().await;
                tokio::time::sleep(drain).await;
            };
            let ended = tokio::select! {
                ended = self.follow(&shutdown) => ended?,
                () = overdue => None,
            };
            let Some(error) = ended else { break };
            if !error.is_retryable() {
                return Err(anyhow::Error::from(error).context(format!("read the binlog from {}", self.end)));
            }
            if self.end > begin {
                backoff = BACKOFF_FIRST;
            }
            tracing::warn!(%error, "binlog stream is opened again");
            self.outlet.metrics.blocked(Blocked::Source, &error);
            self.outlet.metrics.retries.inc();
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = shutdown.cancelled() => break,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        self.save().await;
        Ok(())
    }

    /// Follows one stream to its end: an error of it, or nothing when the process
    /// stops.
    async fn follow(&mut self, shutdown: &CancellationToken) -> anyhow::Result<Option<StreamError>> {
        self.options.from = BinlogPlace { file: self.place.file.clone(), offset: self.place.offset };
        let mut stream = match BinlogStream::open(&self.source, self.options.clone()).await {
            Ok(stream) => stream,
            Err(error) => return Ok(Some(error)),
        };
        loop {
            let first = tokio::select! {
                first = stream.next() => first,
                () = shutdown.cancelled() => return Ok(None),
            };
            let ended = self.take_ready(first, &mut stream).await?;
            self.deliver().await?;
            if let Some(error) = ended {
                return Ok(Some(error));
            }
            self.outlet.metrics.unblocked(Blocked::Source);
            self.outlet.metrics.started();
            if self.end > self.saved
                && (self.saved_at.elapsed() >= PLACE_EVERY || self.rows_since_saved >= ROWS_AT_ONCE)
            {
                self.save().await;
            }
        }
    }

    /// Writes an event and those that are there already into the outbox.
    async fn take_ready(
        &mut self,
        first: Result<Event, StreamError>,
        stream: &mut BinlogStream,
    ) -> anyhow::Result<Option<StreamError>> {
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                Ok(event) => self.take(&event).await?,
                Err(error) => return Ok(Some(error)),
            }
            if self.is_full() {
                break;
            }
            next = stream.next().now_or_never();
        }
        Ok(None)
    }

    async fn take(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Transaction(transaction) => {
                let mut writer = TransactionWriter::new(self.outlet.format, transaction);
                while writer.write_next(&mut self.outbox) {
                    if self.is_full() {
                        self.deliver().await?;
                    }
                }
                self.outlet.metrics.rows_in.inc_by(transaction.rows.len() as u64);
            }
            Event::Statement(statement) => {
                tracing::debug!(sql = statement.sql, "statement skipped");
                self.outlet.metrics.statements_skipped.inc();
            }
            Event::Progress(_) => {}
        }
        self.end = event.end();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.outbox.len() >= ROWS_AT_ONCE || self.outbox.bytes() >= BYTES_AT_ONCE
    }

    /// Sends the outbox and waits until all of it is acknowledged.
    async fn deliver(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let message = |(partition, key, payload)| Message {
            topic: &self.outlet.topic,
            partition: Some(partition),
            key: Some(key),
            payload: Some(payload),
            headers: None,
        };
        let messages: Vec<_> = self.outbox.iter().map(message).collect();
        if !messages.is_empty() {
            let sent = self.outlet.sink.deliver(&messages).await;
            sent.with_context(|| {
                format!("write rows up to {} (kafka.message_bytes_max bounds a row)", self.end)
            })?;
            self.outlet.metrics.batch_seconds.observe(begin.elapsed().as_secs_f64());
        }
        let rows = messages.len();
        self.outlet.metrics.rows_out.inc_by(rows as u64);
        self.rows_since_saved += rows;
        self.outbox.clear();
        let base_name = self.place.file.rsplit_once('.').map_or("", |(base, _)| base);
        let BinlogPlace { file, offset } = BinlogPlace::new(base_name, self.end);
        (self.place.file, self.place.offset) = (file, offset);
        Ok(())
    }

    /// Keeps the place of what was delivered. A failure costs only that a crash
    /// sends more again.
    async fn save(&mut self) {
        match self.outlet.places.save(&self.place).await {
            Ok(()) => self.saved = self.end,
            Err(error) => {
                tracing::warn!(%error, "place of ods was not kept");
                self.outlet.metrics.retries.inc();
            }
        }
        self.saved_at = Instant::now();
        self.rows_since_saved = 0;
    }
}

/// The tables to capture.
fn tables(config: &Config) -> TableFilter {
    let database = config.mysql.database.clone();
    let names: Arc<[String]> = config.ods.tables.clone().into();
    TableFilter::new(move |of, name| {
        of == database && (names.is_empty() || names.iter().any(|known| known == name))
    })
}
