//! Read points: from what a caller names to positions, and the wait for them.

use super::status::ServeError;
use crate::{gtids::GtidPlace, live::Live};
use std::{future::Future, time::Instant};
use tidemark_binlog::Source;
use tidemark_proto::{
    Position,
    dim::v1::{self, position::Place, read_point::Point},
};
use tokio_util::sync::CancellationToken;

/// At which position a call reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadAt {
    /// The newest rows, as of the `applied` at the start.
    Latest,
    /// As of one position for all keys.
    AsOf(Position),
    /// As of a position for each key.
    AsOfEach,
}

/// Resolves read points against the feed and the source.
#[derive(Debug)]
pub(super) struct ReadPoints<'s> {
    pub(super) live: &'s Live,
    pub(super) source: &'s Source,
    pub(super) stop: &'s CancellationToken,
    pub(super) deadline: Instant,
}

impl ReadPoints<'_> {
    /// Resolves the request's read point and waits until `applied` has reached
    /// it, and `greatest` too: the greatest position of its keys.
    pub(super) async fn settle(
        &self,
        point: Option<v1::ReadPoint>,
        greatest: Option<Position>,
    ) -> Result<ReadAt, ServeError> {
        let read_at = match point.and_then(|point| point.point) {
            None | Some(Point::Latest(_)) => ReadAt::Latest,
            Some(Point::AtLeast(position)) => {
                self.reach(position).await?;
                ReadAt::Latest
            }
            Some(Point::AsOf(position)) => ReadAt::AsOf(self.reach(position).await?),
            Some(Point::AsOfEach(_)) => ReadAt::AsOfEach,
        };
        match (read_at, greatest) {
            (ReadAt::AsOfEach, Some(greatest)) => self.wait(greatest).await?,
            (ReadAt::AsOfEach, None) => {}
            (_, Some(_)) => {
                return Err(ServeError::request(
                    "tables.positions",
                    "positions a key go with `as_of_each` alone",
                ));
            }
            (_, None) => {}
        }
        Ok(read_at)
    }

    /// The position that is named, once it is applied.
    pub(super) async fn reach(&self, position: v1::Position) -> Result<Position, ServeError> {
        let wanted = self.place(position).await?;
        self.wait(wanted).await?;
        Ok(wanted)
    }

    /// The position that is named; waits for a GTID and asks the source for
    /// `now`, and for nothing else.
    async fn place(&self, position: v1::Position) -> Result<Position, ServeError> {
        match position.place {
            Some(Place::Packed(packed)) => self.in_epoch(Position::from_packed(packed)),
            Some(Place::FileOffset(text)) => {
                Position::parse(&text, self.live.epoch).map_err(|error| ServeError::position(&error))
            }
            // Boxed: every lookup's future is moved, few ask for these.
            Some(Place::Gtid(gtid)) => Box::pin(self.gtid(&gtid)).await,
            Some(Place::Now(_)) => Box::pin(self.now()).await,
            None => Err(ServeError::request(
                "read_point",
                "the position is empty: set packed, file_offset, gtid or now",
            )),
        }
    }

    /// Positions of a later life of the source cannot be placed.
    fn in_epoch(&self, position: Position) -> Result<Position, ServeError> {
        if position.epoch() > self.live.epoch {
            return Err(ServeError::Unresolved(format!(
                "{position} is of epoch {}, the source is in epoch {}",
                position.epoch(),
                self.live.epoch
            )));
        }
        Ok(position)
    }

    async fn now(&self) -> Result<Position, ServeError> {
        let failed = |error: String| ServeError::NotApplied {
            wanted: "now".into(),
            applied: self.live.applied.get(),
            feed_error: Some(format!("the source does not tell its binlog's end: {error}")),
        };
        let end = tokio::time::timeout_at(self.deadline.into(), self.source.binlog_end()).await;
        let end = end
            .map_err(|_| failed("no answer in time".into()))?
            .map_err(|error| failed(error.to_string()))?;
        end.position(self.live.epoch).map_err(|error| ServeError::position(&error))
    }

    async fn gtid(&self, gtid: &str) -> Result<Position, ServeError> {
        let well_formed = gtid.split_once(':').is_some_and(|(uuid, number)| {
            uuid.len() == 36 && number.parse::<u64>().is_ok_and(|number| number > 0)
        });
        if !well_formed {
            return Err(ServeError::request(
                "read_point.gtid",
                format!("`{gtid}` is not one GTID: write uuid:number"),
            ));
        }
        let gtid = gtid.to_ascii_lowercase();
        loop {
            // Loaded first: a GTID that is noted later moves it.
            let applied = self.live.applied.get();
            let known = self.live.gtids.place(&gtid);
            match known.map_err(|error| ServeError::request("read_point.gtid", error.to_string()))? {
                GtidPlace::At(end) => return Ok(end),
                GtidPlace::Forgotten => {
                    return Err(ServeError::Unresolved(format!(
                        "{gtid} was applied too long ago to know where; name its position"
                    )));
                }
                GtidPlace::Unseen => {}
            }
            if !self.unless_stopped(self.live.applied.moved_past(applied, self.deadline)).await {
                return Err(self.late(gtid));
            }
        }
    }

    async fn wait(&self, wanted: Position) -> Result<(), ServeError> {
        let wanted = self.in_epoch(wanted)?;
        if self.live.applied.get() >= wanted
            || Box::pin(self.unless_stopped(self.live.applied.reached(wanted, self.deadline))).await
        {
            return Ok(());
        }
        Err(self.late(wanted.to_string()))
    }

    async fn unless_stopped(&self, wait: impl Future<Output = bool>) -> bool {
        tokio::select! {
            reached = wait => reached,
            () = self.stop.cancelled() => false,
        }
    }

    fn late(&self, wanted: String) -> ServeError {
        let feed_error = (!self.live.feed.is_following())
            .then(|| self.live.feed.error().unwrap_or_else(|| "starting".into()));
        ServeError::NotApplied { wanted, applied: self.live.applied.get(), feed_error }
    }
}
