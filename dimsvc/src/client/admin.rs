//! `dimsvc audit`, `invalidate` and `repair`: what an operator asks for.

use super::{
    args::Keys,
    connection::Connection,
    failure::Failure,
    key,
    print::{Printer, position, raw, shown, tier},
    table::{Table, pairs},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::{self, IsTerminal as _};
use tidemark_proto::dim::v1::{
    AuditMismatch, AuditRequest, AuditResponse, InvalidateRequest, RepairProgress, RepairRequest,
};

#[derive(Serialize)]
struct AuditLine {
    checks: u64,
    mismatches: u64,
    raced: u64,
    nines: f64,
    worst_staleness_seconds: f64,
    last: Vec<MismatchPart>,
}

#[derive(Serialize)]
struct MismatchPart {
    table: String,
    key: Option<Box<RawValue>>,
    at: Option<String>,
    tier: String,
    held: String,
    expected: String,
}

#[derive(Serialize)]
struct RepairLine {
    compared: u64,
    estimate: u64,
    written: u64,
    deleted: u64,
    at: Option<String>,
    done: bool,
}

#[derive(Serialize)]
struct InvalidateLine {
    dropped: u64,
}

pub(super) async fn audit(mut connection: Connection, out: &mut Printer) -> Result<(), Failure> {
    let request = connection.request(AuditRequest {});
    let audit = connection.admin.audit(request).await?.into_inner();
    if out.is_json() {
        return Ok(out.json(&audit_line(audit))?);
    }
    Ok(out.text(&audit_text(&audit))?)
}

pub(super) async fn invalidate(
    mut connection: Connection,
    arguments: &Keys,
    out: &mut Printer,
) -> Result<(), Failure> {
    let message = InvalidateRequest { table: arguments.table.clone(), keys: keys(arguments)? };
    let request = connection.request(message);
    let dropped = connection.admin.invalidate(request).await?.into_inner().dropped;
    if out.is_json() {
        return Ok(out.json(&InvalidateLine { dropped })?);
    }
    Ok(out.text(&format!("{dropped} dropped; the next lookups load them again\n"))?)
}

pub(super) async fn repair(
    connection: Connection,
    arguments: &Keys,
    out: &mut Printer,
) -> Result<(), Failure> {
    let message = RepairRequest { table: arguments.table.clone(), keys: keys(arguments)? };
    let mut admin = connection.admin.clone();
    let mut progress = connection.begin(admin.repair(message)).await?;
    let bar = bar(out);
    let mut last = None;
    while let Some(step) = progress.message().await? {
        bar.set_length(step.estimate.max(step.compared));
        bar.set_position(step.compared);
        let done = step.done;
        if out.is_json() {
            out.json(&repair_line(&step))?;
        } else if bar.is_hidden() || done {
            bar.finish_and_clear();
            out.text(&repair_text(&step))?;
        }
        last = Some(done);
    }
    match last {
        Some(true) => Ok(()),
        _ => Err(Failure::Incomplete("the repair ended before it was done; run it again")),
    }
}

/// Every key of the arguments; none stands for all.
fn keys(arguments: &Keys) -> Result<Vec<String>, Failure> {
    let keys: Vec<String> = key::keys(&arguments.keys, io::stdin().lock()).collect::<Result<_, _>>()?;
    // An empty input must not turn into "everything".
    if keys.is_empty() && !arguments.keys.is_empty() {
        return Err(Failure::Usage("standard input has no key; leave KEY out to mean all".to_owned()));
    }
    Ok(keys)
}

/// A bar where people watch one; hidden otherwise.
fn bar(out: &Printer) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if out.is_json() || !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    match ProgressStyle::with_template("{bar:40} {pos}/{len} compared, {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn repair_line(step: &RepairProgress) -> RepairLine {
    RepairLine {
        compared: step.compared,
        estimate: step.estimate,
        written: step.written,
        deleted: step.deleted,
        at: position(step.at),
        done: step.done,
    }
}

fn repair_text(step: &RepairProgress) -> String {
    let RepairProgress { compared, estimate, written, deleted, .. } = step;
    let of = if step.done { "done:".to_owned() } else { format!("of about {estimate}:") };
    format!("{compared} compared {of} {written} written, {deleted} deleted, at {}\n", shown(step.at))
}

fn audit_line(audit: AuditResponse) -> AuditLine {
    let part = |mismatch: AuditMismatch| MismatchPart {
        key: raw(&mismatch.key),
        at: position(mismatch.at),
        tier: tier(mismatch.tier),
        table: mismatch.table,
        held: mismatch.held,
        expected: mismatch.expected,
    };
    AuditLine {
        checks: audit.checks,
        mismatches: audit.mismatches,
        raced: audit.raced,
        nines: audit.nines,
        worst_staleness_seconds: audit.worst_staleness_seconds,
        last: audit.last.into_iter().map(part).collect(),
    }
}

fn audit_text(audit: &AuditResponse) -> String {
    let facts = pairs([
        ("checks", audit.checks.to_string()),
        ("mismatches", audit.mismatches.to_string()),
        ("overtaken by a change", audit.raced.to_string()),
        ("nines", format!("{:.2}", audit.nines)),
        ("worst staleness", format!("{:.3} s", audit.worst_staleness_seconds)),
    ]);
    let mut table = Table::new(["TABLE", "KEY", "AT", "TIER", "HELD", "SOURCE"]);
    for mismatch in &audit.last {
        let AuditMismatch { table: name, key, held, expected, .. } = mismatch.clone();
        table.row([name, key, shown(mismatch.at), tier(mismatch.tier), held, expected]);
    }
    if table.is_empty() { facts } else { format!("{facts}\n{}", table.render()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_without_a_mismatch_is_five_lines() {
        let audit = AuditResponse { checks: 1_000, nines: 3.0, ..AuditResponse::default() };
        let expect = "\
checks                 1000
mismatches             0
overtaken by a change  0
nines                  3.00
worst staleness        0.000 s
";
        assert_eq!(audit_text(&audit), expect);
    }

    #[test]
    fn a_mismatch_shows_both_sides() {
        let last = vec![AuditMismatch {
            table: "sku".into(),
            key: "[1]".into(),
            tier: 5,
            held: "{\"v\":1}".into(),
            expected: "{\"v\":2}".into(),
            ..AuditMismatch::default()
        }];
        let text = audit_text(&AuditResponse { mismatches: 1, last, ..AuditResponse::default() });
        assert!(text.ends_with("sku    [1]  -   shared  {\"v\":1}  {\"v\":2}\n"), "{text}");
    }

    #[test]
    fn a_repair_says_whether_it_is_done() {
        let step = RepairProgress { compared: 5, estimate: 9, written: 1, ..RepairProgress::default() };
        assert_eq!(repair_text(&step), "5 compared of about 9: 1 written, 0 deleted, at -\n");
        let done = RepairProgress { done: true, ..step };
        assert_eq!(repair_text(&done), "5 compared done: 1 written, 0 deleted, at -\n");
    }
}
