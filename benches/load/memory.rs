//! What rows cost in memory: a process of its own holds them in a `full` tier,
//! another in moka, and each says what it grew by.

use crate::report::{Floor, Line};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use dimsvc::cache::{Resident as _, ResidentTier, Row, TierKind};
use std::{fs, process::Command};
use tidemark_benches::key;
use tidemark_proto::Position;

const ROW_BYTES: usize = 100;

/// What holds the rows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Holder {
    Full,
    Moka,
}

/// Measures both, one after the other.
pub(crate) fn measure(rows: u64) -> Result<Vec<Line>> {
    let (full, moka) = (ask(Holder::Full, rows)?, ask(Holder::Moka, rows)?);
    let line = |holder, bytes: u64, floor| Line {
        part: "memory",
        name: format!("{holder}, {rows} rows of {ROW_BYTES} B"),
        rate: bytes as f64 / rows as f64,
        unit: "B",
        floor,
        note: format!("{} MiB resident, per row beside", bytes >> 20),
        ..Line::default()
    };
    let floor = Floor::ShareAtMost(full as f64 / moka as f64, 0.6);
    Ok(vec![line("full", full, Some(floor)), line("moka", moka, None)])
}

/// Starts this program again, as a holder.
fn ask(holder: Holder, rows: u64) -> Result<u64> {
    let name = holder.to_possible_value().context("name the holder")?;
    let said = Command::new(std::env::current_exe().context("find this program")?)
        .args(["--hold", name.get_name(), "--rows", &rows.to_string()])
        .output()
        .context("start a holder")?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.status.success(), "a holder failed: {}", String::from_utf8_lossy(&said.stderr));
    text.trim().parse().with_context(|| format!("understand a holder: {text}"))
}

/// Fills the holder and returns the bytes by which the process grew.
pub(crate) fn hold(holder: Holder, rows: u64) -> Result<u64> {
    let before = resident_bytes()?;
    let image = [b'x'; ROW_BYTES];
    let grown = match holder {
        Holder::Full => {
            let at = Position::try_new(1, 1, 10)?;
            let tier = ResidentTier::new(TierKind::Full, at);
            (0..rows).for_each(|id| tier.install(&Row::new(&key(id), at, Some(&image))));
            let grown = resident_bytes()?;
            ensure!(tier.rows() == rows, "it holds {} rows", tier.rows());
            grown
        }
        Holder::Moka => {
            let moka = moka::sync::Cache::<Bytes, Bytes>::builder().max_capacity(2 * rows).build();
            for id in 0..rows {
                moka.insert(key(id), Bytes::copy_from_slice(&image));
            }
            moka.run_pending_tasks();
            let grown = resident_bytes()?;
            ensure!(moka.entry_count() == rows, "it holds {} rows", moka.entry_count());
            grown
        }
    };
    Ok(grown - before)
}

fn resident_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).context("understand /proc/self/status")?;
    Ok(kib << 10)
}
