//! One key, explained: what each tier holds of it, and why a lookup answers what
//! it answers.

use super::{
    lookup::{Lookups, deadline_of},
    point::{ReadAt, ReadPoints},
    read::{Keys, Reader},
    status::ServeError,
};
use crate::{
    cache::{Answer, Found, Resident as _, Tier},
    dimension::Key,
    live::LiveDimension,
    registry::write_key,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tidemark_heart::shared::SharedRead;
use tidemark_proto::{
    Position,
    dim::v1::{self, ExplainRequest, ExplainResponse, TierView, VersionView},
};

/// Versions that are shown of the store.
const VERSIONS_MAX: usize = 100;

/// Explains one key; `timeout` is the caller's.
pub(super) async fn explain(
    lookups: &Lookups,
    request: ExplainRequest,
    timeout: Option<Duration>,
) -> Result<ExplainResponse, ServeError> {
    let deadline = deadline_of(Instant::now(), timeout, &lookups.limits);
    let name = &request.table;
    let live = lookups.live.dimension(name).ok_or_else(|| ServeError::UnknownTable(name.clone()))?;
    let mut keys = Keys::default();
    write_key(&mut keys.text, &live.dimension.key_columns, &request.key)
        .map_err(|error| ServeError::key(name, 0, &error))?;
    keys.ends.push(keys.text.len());
    let key = Key::from_canonical(keys.text.clone());
    let points = ReadPoints { live: &lookups.live, source: &lookups.source, stop: &lookups.stop, deadline };
    let read_at = points.settle(request.read_point, None).await?;
    let applied = lookups.live.applied.get();
    let (at, before_history) = match read_at {
        ReadAt::AsOf(asked) => live.cache.resolve(asked),
        ReadAt::Latest | ReadAt::AsOfEach => (applied, false),
    };
    let views = Views { lookups, live, key: &key, at };
    // Before the answer: reading it may make the key resident.
    let tiers = tokio::time::timeout_at(deadline.into(), views.all(request.source, deadline)).await;
    let tiers = tiers.map_err(|_| ServeError::Late)?;
    let found = views.answer(&keys, deadline).await?;
    let (durable, why) = (lookups.live.durable.get(), why(&found, at, before_history));
    Ok(ExplainResponse {
        applied: applied.packed(),
        applied_text: applied.to_string(),
        durable: durable.packed(),
        durable_text: durable.to_string(),
        canonical_key: text(key.as_bytes()),
        answer: Some(answer(&request.key, &found, before_history)),
        why,
        tiers,
    })
}

struct Views<'l> {
    lookups: &'l Lookups,
    live: &'l Arc<LiveDimension>,
    key: &'l Key,
    at: Position,
}

impl Views<'_> {
    async fn answer(&self, keys: &Keys, deadline: Instant) -> Result<Found, ServeError> {
        if !self.live.has_history() {
            return Err(ServeError::Loading(self.live.dimension.name.to_string()));
        }
        if let Some(lost) = self.live.cache.lost().filter(|lost| self.at > *lost) {
            return Err(ServeError::lost(self.live, lost));
        }
        let reader = Reader { live: self.live, loader: &self.lookups.loader, latest: false, may_move: false };
        let found = tokio::time::timeout_at(deadline.into(), reader.read(keys, |_| self.at)).await;
        let mut found = found.map_err(|_| ServeError::Late)??;
        found.pop().ok_or(ServeError::Late)
    }

    async fn all(&self, source: bool, deadline: Instant) -> Vec<TierView> {
        let mut views = vec![self.resident(), self.overlay()];
        if self.live.dimension.shared {
            views.push(self.shared().await);
        }
        if !self.live.dimension.lazy {
            views.push(self.store().await);
        }
        if source {
            views.push(self.source(deadline).await);
        }
        views
    }

    fn resident(&self) -> TierView {
        let tier = self.live.cache.tier();
        let row = tier.get(self.key.as_bytes());
        let note = match (&row, tier.absent_after()) {
            (Some(row), _) if row.image().is_none() => {
                format!("known to be absent after {}", row.from())
            }
            (Some(_), _) => String::new(),
            (None, Some(after)) => format!("every row is resident: absent after {after}"),
            (None, None) => String::from("not resident"),
        };
        let rows = row.filter(|row| row.image().is_some());
        view(tier.tier(), rows.map(Answer::newest).iter().map(version).collect(), note)
    }

    fn overlay(&self) -> TierView {
        let versions = self.live.cache.overlay_of(self.key.as_bytes());
        let note = if versions.is_empty() { "every version is durable" } else { "" };
        view(Tier::Overlay, versions.iter().map(version).collect(), note.to_owned())
    }

    async fn shared(&self) -> TierView {
        let shared = &self.lookups.loader.shared;
        let Some(session) = shared.usable() else {
            return view(Tier::Shared, Vec::new(), format!("not in use: {}", shared.status().reason));
        };
        let held = session.peek(&self.live.dimension.sink_table, std::slice::from_ref(self.key)).await;
        let (versions, note) = match held.map(|mut held| held.pop().flatten()) {
            Err(error) => (Vec::new(), error.to_string()),
            Ok(None | Some(SharedRead::Leased)) => (Vec::new(), String::from("not held")),
            Ok(Some(SharedRead::Busy)) => (Vec::new(), String::from("a load holds a lease")),
            Ok(Some(SharedRead::Absent)) => (Vec::new(), String::from("held as absent")),
            Ok(Some(SharedRead::Hit { version, image })) => {
                let to = Position::MAX;
                (vec![stored(version, to, image.as_deref())], format!("generation {}", session.generation()))
            }
        };
        view(Tier::Shared, versions, note)
    }

    async fn store(&self) -> TierView {
        let table = Arc::clone(&self.live.dimension.sink_table);
        match self.lookups.loader.store.versions(table, self.key.clone(), VERSIONS_MAX).await {
            Err(error) => view(Tier::Store, Vec::new(), error.to_string()),
            Ok(rows) => {
                let mut to = Position::MAX;
                let versions = rows.iter().map(|row| {
                    let version = stored(row.version, to, row.image.as_deref());
                    to = row.version;
                    version
                });
                let versions: Vec<_> = versions.collect();
                let more = if versions.len() < VERSIONS_MAX { "" } else { "older versions are not shown" };
                view(Tier::Store, versions, more.to_owned())
            }
        }
    }

    async fn source(&self, deadline: Instant) -> TierView {
        let keys = std::slice::from_ref(self.key);
        match self.lookups.loader.fallback.read(self.live, keys, deadline).await {
            Err(error) => view(Tier::Source, Vec::new(), error.to_string()),
            Ok(read) => {
                let versions = read.rows.iter().flatten();
                let versions = versions.map(|row| VersionView {
                    from: read.low.before().packed(),
                    row: text(row),
                    ..VersionView::default()
                });
                view(Tier::Source, versions.collect(), format!("as it was at or after {}", read.low))
            }
        }
    }
}

fn view(tier: Tier, versions: Vec<VersionView>, note: String) -> TierView {
    TierView { tier: tier as i32, versions, note }
}

fn version(answer: &Answer) -> VersionView {
    let view = stored(answer.version(), answer.to, answer.image());
    VersionView { from: answer.from.packed(), ..view }
}

fn stored(version: Position, to: Position, image: Option<&[u8]>) -> VersionView {
    VersionView {
        version: version.packed(),
        version_text: version.to_string(),
        from: version.packed(),
        to: if to == Position::MAX { 0 } else { to.packed() },
        row: image.map_or_else(String::new, text),
        deleted: image.is_none(),
    }
}

fn answer(key: &str, found: &Found, before_history: bool) -> v1::Answer {
    let image = found.answer.image();
    v1::Answer {
        key: key.to_owned(),
        found: image.is_some(),
        row: image.map_or_else(String::new, text),
        version: found.answer.version().packed(),
        version_text: found.answer.version().to_string(),
        from: found.answer.from.packed(),
        to: if found.answer.is_open() { 0 } else { found.answer.to.packed() },
        tier: found.tier as i32,
        before_history,
        ..v1::Answer::default()
    }
}

fn why(found: &Found, at: Position, before_history: bool) -> String {
    let Found { answer, tier } = found;
    let held = match (answer.image(), answer.version()) {
        (Some(_), Position::ZERO) => format!("the source had it after {}", answer.from),
        (Some(_), version) => format!("its version of {version} is the greatest below"),
        (None, Position::ZERO) => format!("no version is known, and all after {} would be", answer.from),
        (None, version) => format!("it was deleted at {version}"),
    };
    let until = if answer.is_open() {
        String::from("and nothing newer is applied")
    } else {
        format!("and it stands up to {}", answer.to)
    };
    let moved = if before_history { ", where known history begins," } else { "" };
    format!("read at {at}{moved} from the {} tier: {held}, {until}", tier.as_str())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
