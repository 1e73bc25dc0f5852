//! `dimsvc lookup`: rows by key, batch by batch.

use super::{
    args::Lookup,
    connection::Connection,
    failure::Failure,
    key,
    print::{Printer, position, raw, raw_row, shown, tier},
    table::{Table, cell},
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::io;
use tidemark_proto::{
    Position,
    dim::v1::{Answer, LookupRequest, TableLookup},
    text::object_columns,
};

/// Keys of one call.
const BATCH_KEYS: usize = 1_000;
/// Some keys have no row.
const SOME_ABSENT: u8 = 1;

/// Counts over all batches.
#[derive(Debug, Default)]
struct Total {
    keys: usize,
    absent: usize,
    applied: u64,
}

/// The answers of one key: one, or for an index one a row.
#[derive(Debug)]
struct OfKey<'a> {
    key: &'a str,
    answers: Vec<&'a Answer>,
}

#[derive(Serialize)]
struct Line<'a> {
    table: &'a str,
    key: Option<Box<RawValue>>,
    found: bool,
    row: Option<Box<RawValue>>,
    version: Option<String>,
    from: Option<String>,
    to: Option<String>,
    tier: Option<String>,
    deleted: bool,
    before_history: bool,
    stale: bool,
    applied: String,
}

pub(super) async fn run(
    mut connection: Connection,
    arguments: &Lookup,
    out: &mut Printer,
) -> Result<u8, Failure> {
    let mut keys = key::keys(&arguments.keys, io::stdin().lock());
    let mut total = Total::default();
    loop {
        let batch: Vec<String> = keys.by_ref().take(BATCH_KEYS).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            break;
        }
        let (applied, answers) = ask(&mut connection, arguments, &batch).await?;
        let of_keys = by_key(&batch, &answers, arguments.index.is_some())?;
        total.keys += batch.len();
        total.absent += of_keys.iter().filter(|of_key| !of_key.is_found()).count();
        total.applied = applied;
        print(out, arguments, &of_keys, applied)?;
    }
    if !out.is_json() {
        out.text(&total.text())?;
    }
    Ok(if total.absent == 0 { 0 } else { SOME_ABSENT })
}

async fn ask(
    connection: &mut Connection,
    arguments: &Lookup,
    keys: &[String],
) -> Result<(u64, Vec<Answer>), Failure> {
    let table = TableLookup {
        table: arguments.table.clone(),
        plain_keys: keys.to_vec(),
        columns: arguments.columns.clone(),
        index: arguments.index.clone().unwrap_or_default(),
        ..TableLookup::default()
    };
    let request = LookupRequest {
        id: 0,
        tables: vec![table],
        read_point: arguments.when.read_point(),
        ..Default::default()
    };
    let request = connection.request(request);
    let response = connection.dimensions.lookup(request).await?.into_inner();
    let answers = response.tables.into_iter().next().ok_or(Failure::Incomplete("it has no table"))?;
    Ok((response.applied, answers.answers))
}

/// Every key with its answers, in the order of the keys.
fn by_key<'a>(keys: &'a [String], answers: &'a [Answer], index: bool) -> Result<Vec<OfKey<'a>>, Failure> {
    let mut of_keys: Vec<_> = keys.iter().map(|key| OfKey { key, answers: Vec::new() }).collect();
    for (place, answer) in answers.iter().enumerate() {
        let place = if index { answer.of_key as usize } else { place };
        let of_key =
            of_keys.get_mut(place).ok_or(Failure::Incomplete("it answers a key that was not asked"))?;
        of_key.answers.push(answer);
    }
    if !index && answers.len() != keys.len() {
        return Err(Failure::Incomplete("it leaves keys out"));
    }
    Ok(of_keys)
}

impl OfKey<'_> {
    fn is_found(&self) -> bool {
        self.answers.iter().any(|answer| answer.found)
    }
}

fn print(out: &mut Printer, arguments: &Lookup, of_keys: &[OfKey<'_>], applied: u64) -> io::Result<()> {
    if !out.is_json() {
        return out.text(&table(of_keys).render());
    }
    for of_key in of_keys {
        if of_key.answers.is_empty() {
            out.json(&line(&arguments.table, of_key.key, &Answer::default(), applied))?;
        }
        for answer in &of_key.answers {
            out.json(&line(&arguments.table, &answer.key, answer, applied))?;
        }
    }
    Ok(())
}

fn line<'a>(table: &'a str, key: &str, answer: &Answer, applied: u64) -> Line<'a> {
    Line {
        table,
        key: raw(key),
        found: answer.found,
        row: raw_row(&answer.row),
        version: position(answer.version),
        from: position(answer.from),
        to: position(answer.to),
        tier: (answer.tier != 0).then(|| tier(answer.tier)),
        deleted: answer.deleted,
        before_history: answer.before_history,
        stale: answer.stale,
        applied: Position::from_packed(applied).to_string(),
    }
}

/// The marks first, then the row's columns in the order of the rows.
fn table(of_keys: &[OfKey<'_>]) -> Table {
    let mut columns: Vec<&str> = Vec::new();
    let rows = of_keys.iter().flat_map(|of_key| &of_key.answers).map(|answer| answer.row.as_str());
    for (name, _) in rows.flat_map(object_columns) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let mut table = Table::new(["KEY", "STATE", "VERSION", "TIER"].iter().chain(&columns).copied());
    for of_key in of_keys {
        if of_key.answers.is_empty() {
            table.row([of_key.key, "absent"]);
        }
        for answer in &of_key.answers {
            let values = columns.iter().map(|name| {
                object_columns(&answer.row)
                    .find(|(column, _)| column == name)
                    .map_or_else(String::new, |(_, token)| cell(token))
            });
            let marks = [answer.key.clone(), state(answer), shown(answer.version), tier(answer.tier)];
            table.row(marks.into_iter().chain(values));
        }
    }
    table
}

fn state(answer: &Answer) -> String {
    let mut state = match answer {
        Answer { deleted: true, .. } => "deleted",
        Answer { found: true, .. } => "found",
        _ => "absent",
    }
    .to_owned();
    if answer.before_history {
        state.push_str(", before history");
    }
    if answer.stale {
        state.push_str(", stale");
    }
    state
}

impl Total {
    fn text(&self) -> String {
        let Self { keys, absent, applied } = self;
        let found = keys - absent;
        format!("\n{found} found, {absent} absent, applied {}\n", Position::from_packed(*applied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> u64 {
        Position::try_new(1, 1, offset).unwrap().packed()
    }

    fn answer(key: &str, row: &str) -> Answer {
        let (found, version) = (!row.is_empty(), if row.is_empty() { 0 } else { at(100) });
        Answer { key: key.into(), found, row: row.into(), version, tier: 1, ..Answer::default() }
    }

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| String::from(*key)).collect()
    }

    #[test]
    fn a_table_marks_every_state_and_lines_up() {
        let answers = [
            answer("[1]", r#"{"id":1,"name":"北京"}"#),
            Answer { before_history: true, ..answer("[2]", "") },
            Answer { deleted: true, ..answer("[3]", r#"{"id":3,"name":null}"#) },
            Answer { stale: true, ..answer("[4]", r#"{"id":4,"name":"d","added":"x"}"#) },
        ];
        let keys = keys(&["[1]", "[2]", "[3]", "[4]"]);
        let text = table(&by_key(&keys, &answers, false).unwrap()).render();
        let expect = "\
KEY  STATE                   VERSION       TIER  id  name  added
[1]  found                   1/000001:100  full  1   北京
[2]  absent, before history  -             full
[3]  deleted                 1/000001:100  full  3   NULL
[4]  found, stale            1/000001:100  full  4   d     x
";
        assert_eq!(text, expect);
    }

    #[test]
    fn a_key_of_an_index_has_any_number_of_rows() {
        let of = |of_key, key: &str| Answer { of_key, ..answer(key, "{}") };
        let answers = [of(0, "[\"a\",1]"), of(0, "[\"a\",2]"), of(2, "[\"c\",3]")];
        let keys = keys(&["[\"a\"]", "[\"b\"]", "[\"c\"]"]);
        let of_keys = by_key(&keys, &answers, true).unwrap();
        let rows: Vec<_> = of_keys.iter().map(|of_key| (of_key.answers.len(), of_key.is_found())).collect();
        assert_eq!(rows, [(2, true), (0, false), (1, true)]);
        assert_eq!(table(&of_keys).render().lines().nth(3).unwrap(), "[\"b\"]    absent");
    }

    #[test]
    fn an_answer_that_is_not_whole_is_refused() {
        let two = keys(&["[1]", "[2]"]);
        assert!(by_key(&two, &[answer("[1]", "")], false).is_err());
        assert!(by_key(&two, &[Answer { of_key: 2, ..answer("[1]", "") }], true).is_err());
    }

    #[test]
    fn a_json_line_carries_the_row_as_it_stands() {
        let answer = Answer { from: at(99), ..answer("[1]", r#"{"id":1,"price":1.50}"#) };
        let line = serde_json::to_string(&line("sku", &answer.key, &answer, at(200))).unwrap();
        let expect = concat!(
            r#"{"table":"sku","key":[1],"found":true,"row":{"id":1,"price":1.50},"version":"1/000001:100","#,
            r#""from":"1/000001:99","to":null,"tier":"full","deleted":false,"before_history":false,"stale":false,"#,
            r#""applied":"1/000001:200"}"#
        );
        assert_eq!(line, expect);
    }
}
