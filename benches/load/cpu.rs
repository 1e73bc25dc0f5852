//! CPU time of processes, from `/proc`.

use anyhow::{Context, Result};
use std::fs;

/// The unit of `/proc/PID/stat` on Linux, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU-seconds that a process has used.
pub(crate) fn of(pid: u32) -> Result<f64> {
    Ok(times(&pid.to_string())?.0)
}

/// CPU-seconds of this process.
pub(crate) fn own() -> Result<f64> {
    Ok(times("self")?.0)
}

/// CPU-seconds of this process's children that have ended.
pub(crate) fn ended_children() -> Result<f64> {
    Ok(times("self")?.1)
}

/// (its own, its ended children's).
fn times(process: &str) -> Result<(f64, f64)> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The program's name, in parentheses, may hold anything; the state is next.
    let (_, fields) = text.rsplit_once(')').with_context(|| format!("understand {path}"))?;
    let ticks: Vec<f64> =
        fields.split_whitespace().skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    let [user, system, children_user, children_system] = ticks[..] else {
        anyhow::bail!("understand {path}: it has too few fields");
    };
    Ok(((user + system) / TICKS_PER_SECOND, (children_user + children_system) / TICKS_PER_SECOND))
}
