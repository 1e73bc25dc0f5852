//! `dimsvc explain`: one key in every tier, and why it is answered as it is.

use super::{
    args::Explain,
    connection::Connection,
    failure::Failure,
    key,
    print::{Printer, interval, position, raw, raw_row, shown, tier},
    table::{Table, pairs},
};
use serde::Serialize;
use serde_json::value::RawValue;
use tidemark_proto::dim::v1::{Answer, ExplainRequest, ExplainResponse, TierView, VersionView};

#[derive(Serialize)]
struct Line<'a> {
    key: Option<Box<RawValue>>,
    applied: Option<String>,
    durable: Option<String>,
    answer: Option<AnswerPart>,
    why: &'a str,
    tiers: Vec<TierPart<'a>>,
}

#[derive(Serialize)]
struct AnswerPart {
    found: bool,
    row: Option<Box<RawValue>>,
    version: Option<String>,
    from: Option<String>,
    to: Option<String>,
    tier: String,
    before_history: bool,
    deleted: bool,
    stale: bool,
}

#[derive(Serialize)]
struct TierPart<'a> {
    tier: String,
    note: &'a str,
    versions: Vec<VersionPart>,
}

#[derive(Serialize)]
struct VersionPart {
    version: Option<String>,
    from: Option<String>,
    to: Option<String>,
    row: Option<Box<RawValue>>,
    deleted: bool,
}

pub(super) async fn run(
    mut connection: Connection,
    arguments: &Explain,
    out: &mut Printer,
) -> Result<(), Failure> {
    let request = connection.request(ExplainRequest {
        table: arguments.table.clone(),
        key: key::key(&arguments.key)?,
        read_point: arguments.when.read_point(),
        source: arguments.source,
    });
    let explained = connection.admin.explain(request).await?.into_inner();
    if out.is_json() {
        return Ok(out.json(&line(&explained))?);
    }
    Ok(out.text(&text(&explained))?)
}

fn line(explained: &ExplainResponse) -> Line<'_> {
    let answer = |answer: &Answer| AnswerPart {
        found: answer.found,
        row: raw_row(&answer.row),
        version: position(answer.version),
        from: position(answer.from),
        to: position(answer.to),
        tier: tier(answer.tier),
        before_history: answer.before_history,
        deleted: answer.deleted,
        stale: answer.stale,
    };
    Line {
        key: raw(&explained.canonical_key),
        applied: position(explained.applied),
        durable: position(explained.durable),
        answer: explained.answer.as_ref().map(answer),
        why: &explained.why,
        tiers: explained.tiers.iter().map(tier_part).collect(),
    }
}

fn tier_part(view: &TierView) -> TierPart<'_> {
    let version = |version: &VersionView| VersionPart {
        version: position(version.version),
        from: position(version.from),
        to: position(version.to),
        row: raw_row(&version.row),
        deleted: version.deleted,
    };
    TierPart {
        tier: tier(view.tier),
        note: &view.note,
        versions: view.versions.iter().map(version).collect(),
    }
}

fn text(explained: &ExplainResponse) -> String {
    let answer = explained.answer.clone().unwrap_or_default();
    let row = match (&answer, answer.row.as_str()) {
        (Answer { deleted: true, .. }, row) => format!("deleted, last {row}"),
        (_, "") => "absent".to_owned(),
        (_, row) => row.to_owned(),
    };
    let mut marks = vec![format!("from tier {}", tier(answer.tier))];
    marks.extend(answer.before_history.then(|| "before history".to_owned()));
    marks.extend(answer.stale.then(|| "stale".to_owned()));
    let facts = pairs([
        ("key", explained.canonical_key.clone()),
        ("answer", row),
        ("version", format!("{}, valid for {}", shown(answer.version), interval(answer.from, answer.to))),
        ("", marks.join(", ")),
        ("why", explained.why.clone()),
        ("applied", explained.applied_text.clone()),
        ("durable", explained.durable_text.clone()),
    ]);
    let mut table = Table::new(["TIER", "VERSION", "VALID FOR", "ROW"]);
    for view in &explained.tiers {
        add_tier(&mut table, view);
    }
    format!("{facts}\n{}", table.render())
}

fn add_tier(table: &mut Table, view: &TierView) {
    let tier = tier(view.tier);
    for version in &view.versions {
        let row = if version.deleted { "(deleted)".to_owned() } else { version.row.clone() };
        table.row([tier.clone(), shown(version.version), interval(version.from, version.to), row]);
    }
    match (view.note.as_str(), view.versions.is_empty()) {
        ("", false) => {}
        ("", true) => table.row([tier.as_str(), "-", "", "(nothing)"]),
        (note, _) => table.row([tier.as_str(), "-", "", &format!("({note})")]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_proto::{Position, dim::v1::Tier};

    fn explained() -> ExplainResponse {
        let at = |offset| Position::try_new(1, 1, offset).unwrap().packed();
        let row = "{\"id\":1}".to_owned();
        let version = VersionView { version: at(9), from: at(9), row: row.clone(), ..VersionView::default() };
        let gone = VersionView { deleted: true, row: String::new(), to: at(9), ..version.clone() };
        let view =
            |tier: Tier, versions, note: &str| TierView { tier: tier.into(), versions, note: note.into() };
        ExplainResponse {
            canonical_key: "[1]".into(),
            applied: at(50),
            applied_text: "1/000001:50".into(),
            durable_text: "1/000001:40".into(),
            answer: Some(Answer {
                found: true,
                row,
                version: at(9),
                from: at(9),
                tier: 1,
                ..Answer::default()
            }),
            why: "resident".into(),
            tiers: vec![
                view(Tier::Full, vec![version.clone()], ""),
                view(Tier::Overlay, vec![], ""),
                view(Tier::Shared, vec![], "skipped: breaker open"),
                view(Tier::Store, vec![version, gone], ""),
            ],
            ..ExplainResponse::default()
        }
    }

    #[test]
    fn every_tier_is_shown_with_its_versions() {
        let expect = "\
key      [1]
answer   {\"id\":1}
version  1/000001:9, valid for (1/000001:9, open)
         from tier full
why      resident
applied  1/000001:50
durable  1/000001:40

TIER     VERSION     VALID FOR                 ROW
full     1/000001:9  (1/000001:9, open)        {\"id\":1}
overlay  -                                     (nothing)
shared   -                                     (skipped: breaker open)
store    1/000001:9  (1/000001:9, open)        {\"id\":1}
store    1/000001:9  (1/000001:9, 1/000001:9]  (deleted)
";
        assert_eq!(text(&explained()), expect);
    }

    #[test]
    fn json_has_the_same() {
        let value = serde_json::to_value(line(&explained())).unwrap();
        assert_eq!(value["answer"]["row"]["id"], 1);
        assert_eq!(value["tiers"][2]["note"], "skipped: breaker open");
        assert_eq!(value["tiers"][3]["versions"][1]["deleted"], true);
    }
}
