//! What the text of a QUERY event is to a reader of transactions.
//!
//! This is no SQL parser: the server writes the control statements itself, in a
//! few fixed forms, and of any other statement only the first word and the
//! names that occur in it matter. Of an ALTER TABLE of a dimension every
//! specification is told apart (`alter`).

mod alter;
mod column;
mod tokens;
mod types;

pub use alter::Alteration;
pub use column::ColumnDefinition;

/// The part that a statement plays in its event group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// BEGIN, or XA START.
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    RollbackTo(String),
    /// XA COMMIT or XA ROLLBACK of a transaction that was prepared before.
    XaOutcome,
    /// RELEASE SAVEPOINT, XA END: nothing to a reader.
    Mark,
    /// It changes rows, or may: INSERT and its like, as text.
    Write,
    /// DDL and everything else.
    Other,
}

/// Classifies a statement.
pub(crate) fn role(sql: &str) -> Role {
    let mut words = Words::new(sql);
    let first = words.keyword();
    match first.as_str() {
        "BEGIN" => Role::Begin,
        "COMMIT" => Role::Commit,
        "SAVEPOINT" => Role::Savepoint(words.name()),
        "RELEASE" => Role::Mark,
        "ROLLBACK" => match words.keyword().as_str() {
            "TO" => rollback_to(words),
            _ => Role::Rollback,
        },
        "XA" => match words.keyword().as_str() {
            "START" | "BEGIN" => Role::Begin,
            "COMMIT" | "ROLLBACK" => Role::XaOutcome,
            _ => Role::Mark,
        },
        "INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "LOAD" | "WITH" | "SELECT" | "DO" | "CALL" => {
            Role::Write
        }
        _ => Role::Other,
    }
}

fn rollback_to(mut words: Words<'_>) -> Role {
    let name = words.name();
    if name.eq_ignore_ascii_case("SAVEPOINT") {
        let named = words.name();
        return Role::RollbackTo(if named.is_empty() { name } else { named });
    }
    Role::RollbackTo(name)
}

/// Whether a table that `watched` accepts may be named in the statement. Every
/// name in it is tried, so a column of the same name counts too.
pub(crate) fn names_table(sql: &str, database: &str, watched: impl Fn(&str, &str) -> bool) -> bool {
    let mut words = Words::new(sql);
    let mut qualifier = String::new();
    loop {
        let name = words.name();
        if name.is_empty() {
            if words.rest.is_empty() {
                return false;
            }
            words.skip();
            continue;
        }
        let within = if qualifier.is_empty() { database } else { &qualifier };
        if watched(within, &name) {
            return true;
        }
        let qualifies = words.rest.starts_with('.');
        qualifier = if qualifies { name } else { String::new() };
        if qualifies {
            words.skip();
        }
    }
}

/// Whether a statement takes rows of a table away, or the table itself, without
/// row events: TRUNCATE, DROP, RENAME, partition and tablespace operations. A
/// statement that only might counts.
pub(crate) fn removes_rows(sql: &str, default_database: &str, (database, table): (&str, &str)) -> bool {
    let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
    let names_it = || names_table(sql, default_database, |d, t| is(d, database) && is(t, table));
    let mut words = Words::new(sql);
    match words.keyword().as_str() {
        "TRUNCATE" | "RENAME" => names_it(),
        "DROP" => match words.keyword().as_str() {
            "TABLE" | "TABLES" => names_it(),
            "DATABASE" | "SCHEMA" => names_table(sql, "", |_, name| is(name, database)),
            _ => false,
        },
        "ALTER" => alters_rows(words) && names_it(),
        _ => false,
    }
}

/// What a statement outside of transactions does to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    None,
    /// All rows go, the table stays as it is.
    Truncates,
    /// Its columns or options may be others, by these specifications.
    Alters(Vec<Alteration>),
    /// The table, or rows of it, may be gone or others: DROP, RENAME, partition
    /// and tablespace operations.
    Replaces,
}

/// What a statement does to a table.
pub(crate) fn effect(sql: &str, default_database: &str, table: (&str, &str)) -> Effect {
    let mut words = Words::new(sql);
    let first = words.keyword();
    if removes_rows(sql, default_database, table) {
        return if first == "TRUNCATE" { Effect::Truncates } else { Effect::Replaces };
    }
    match first.as_str() {
        "ALTER" => match altered(words, default_database, table) {
            Some(specifications) => Effect::Alters(alter::alterations(specifications)),
            None => Effect::None,
        },
        "DROP" if words.keyword() == "INDEX" && words.name() == "PRIMARY" => {
            let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
            let names_it = names_table(sql, default_database, |d, t| is(d, table.0) && is(t, table.1));
            if names_it { Effect::Replaces } else { Effect::None }
        }
        _ => Effect::None,
    }
}

/// The specifications of an ALTER TABLE of this table: what follows its name.
fn altered<'a>(
    mut words: Words<'a>,
    default_database: &str,
    (database, table): (&str, &str),
) -> Option<&'a str> {
    let mut word = words.keyword();
    while matches!(word.as_str(), "IGNORE" | "ONLINE" | "OFFLINE") {
        word = words.keyword();
    }
    if word != "TABLE" {
        return None;
    }
    let mut name = words.name();
    if name.eq_ignore_ascii_case("IF") {
        words.name();
        name = words.name();
    }
    words.skip_blank();
    let qualified = words.rest.starts_with('.');
    let within = if qualified {
        words.skip();
        std::mem::replace(&mut name, words.name())
    } else {
        default_database.to_owned()
    };
    (within.eq_ignore_ascii_case(database) && name.eq_ignore_ascii_case(table)).then_some(words.rest)
}

/// Whether an ALTER goes beyond columns and indexes.
fn alters_rows(mut words: Words<'_>) -> bool {
    let mut renames = false;
    while !words.rest.is_empty() {
        let word = words.keyword();
        if std::mem::take(&mut renames) && !matches!(word.as_str(), "COLUMN" | "INDEX" | "KEY") {
            return true;
        }
        match word.as_str() {
            "" => words.skip(),
            "RENAME" => renames = true,
            "PARTITION" | "PARTITIONS" | "PARTITIONING" | "TABLESPACE" => return true,
            _ => {}
        }
    }
    false
}

/// Takes names and words off the front of a statement.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn new(sql: &'a str) -> Self {
        Self { rest: sql }
    }

    /// The next word in upper case; empty when a symbol follows.
    fn keyword(&mut self) -> String {
        self.name().to_ascii_uppercase()
    }

    /// The next name, without its backquotes; empty when a symbol follows.
    fn name(&mut self) -> String {
        self.skip_blank();
        if let Some(quoted) = self.rest.strip_prefix('`') {
            return self.quoted(quoted);
        }
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.to_owned()
    }

    fn quoted(&mut self, mut rest: &'a str) -> String {
        let mut name = String::new();
        while let Some((part, tail)) = rest.split_once('`') {
            name.push_str(part);
            rest = tail;
            match rest.strip_prefix('`') {
                Some(tail) => rest = tail,
                None => break,
            }
            name.push('`');
        }
        self.rest = rest;
        name
    }

    /// Blanks, and comments but for those that the server executes.
    fn skip_blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let line = self.rest.starts_with('#') || self.rest.starts_with("-- ");
            self.rest = match self.rest.strip_prefix("/*") {
                Some(comment) if !comment.starts_with('!') => {
                    comment.split_once("*/").map_or("", |(_, rest)| rest)
                }
                _ if line => self.rest.split_once('\n').map_or("", |(_, rest)| rest),
                _ => return,
            };
        }
    }

    /// One symbol, or a whole string literal.
    fn skip(&mut self) {
        let mut symbols = self.rest.chars();
        let quote = symbols.next();
        self.rest = symbols.as_str();
        let Some(quote @ ('\'' | '"')) = quote else { return };
        let mut escaped = false;
        for (at, symbol) in self.rest.char_indices() {
            match symbol {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if symbol == quote => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return;
                }
                _ => {}
            }
        }
        self.rest = "";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_statements_are_told_apart() {
        for (sql, expect) in [
            ("BEGIN", Role::Begin),
            ("COMMIT", Role::Commit),
            ("ROLLBACK", Role::Rollback),
            ("ROLLBACK /* added by the server */", Role::Rollback),
            ("SAVEPOINT `a``b`", Role::Savepoint(String::from("a`b"))),
            ("ROLLBACK TO `a`", Role::RollbackTo(String::from("a"))),
            ("rollback to savepoint a", Role::RollbackTo(String::from("a"))),
            ("RELEASE SAVEPOINT `a`", Role::Mark),
            ("XA START X'61',X'',1", Role::Begin),
            ("XA END X'61',X'',1", Role::Mark),
            ("XA COMMIT X'61',X'',1", Role::XaOutcome),
            ("/* why */ insert into t values (1)", Role::Write),
            ("WITH x AS (SELECT 1) DELETE FROM t", Role::Write),
            ("CREATE TABLE t (a int)", Role::Other),
            ("TRUNCATE t", Role::Other),
            ("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `t`", Role::Other),
            ("", Role::Other),
        ] {
            assert_eq!(role(sql), expect, "{sql}");
        }
    }

    #[test]
    fn statements_that_take_rows_away_are_known() {
        for sql in [
            "TRUNCATE TABLE `order-info`",
            "/* ApplicationName=x */ truncate `order-info`",
            "-- why\ntruncate shop.`order-info`",
            "# why\nDROP TABLE IF EXISTS `shop`.`order-info`",
            "DROP TABLE a, `order-info` /* generated by server */",
            "DROP DATABASE shop",
            "RENAME TABLE `order-info` TO u",
            "RENAME TABLE u TO `order-info`",
            "ALTER TABLE `order-info` RENAME TO u",
            "ALTER TABLE `order-info` RENAME TO u, ADD COLUMN c INT",
            "ALTER TABLE `order-info` RENAME u, ADD KEY (c)",
            "ALTER TABLE `order-info` DROP PARTITION p0",
            "ALTER TABLE `order-info` DISCARD TABLESPACE",
        ] {
            assert!(removes_rows(sql, "shop", ("shop", "order-info")), "{sql}");
        }
        for sql in [
            "ALTER TABLE `order-info` ADD COLUMN c INT",
            "ALTER TABLE `order-info` RENAME COLUMN a TO b, RENAME INDEX i TO j",
            "CREATE TABLE `order-info` (id INT)",
            "DROP INDEX i ON `order-info`",
            "DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `order-info`",
            "TRUNCATE other",
            "TRUNCATE other.`order-info`",
            "DROP DATABASE other",
        ] {
            assert!(!removes_rows(sql, "shop", ("shop", "order-info")), "{sql}");
        }
        assert!(!removes_rows("TRUNCATE `order-info`", "other", ("shop", "order-info")));
    }

    #[test]
    fn what_a_statement_does_to_a_table_is_known() {
        let alters = |alterations: &[Alteration]| Effect::Alters(alterations.to_vec());
        for (sql, expect) in [
            ("/* x */ truncate table `order-info`", Effect::Truncates),
            ("TRUNCATE other", Effect::None),
            ("DROP TABLE `order-info`", Effect::Replaces),
            ("RENAME TABLE `order-info` TO a, b TO `order-info`", Effect::Replaces),
            ("ALTER TABLE `order-info` DROP PARTITION p0", Effect::Replaces),
            ("DROP INDEX `PRIMARY` ON `order-info`", Effect::Replaces),
            ("DROP INDEX i ON `order-info`", Effect::None),
            ("CREATE INDEX i ON `order-info` (a)", Effect::None),
            ("ALTER TABLE shop . `order-info` ENGINE=InnoDB", alters(&[Alteration::Harmless])),
            ("alter table `ORDER-INFO` force", alters(&[Alteration::Harmless])),
            ("ALTER TABLE other ADD COLUMN `order-info` INT", Effect::None),
            ("ALTER TABLE other.`order-info` ADD COLUMN c INT", Effect::None),
            ("ALTER DATABASE shop CHARACTER SET utf8mb4", Effect::None),
        ] {
            assert_eq!(effect(sql, "shop", ("shop", "order-info")), expect, "{sql}");
        }
    }

    #[test]
    fn watched_tables_are_found_by_any_spelling() {
        let watched = |database: &str, table: &str| (database, table) == ("shop", "sku");
        for (sql, database, expect) in [
            ("UPDATE sku SET a = 1", "shop", true),
            ("UPDATE `shop`.`sku` SET a = 1", "other", true),
            ("DELETE FROM shop.sku", "", true),
            ("UPDATE sku SET a = 1", "other", false),
            ("UPDATE spu SET a = 'the sku`s'", "shop", false),
            ("UPDATE spu SET a = 'it''s \\' sku'", "shop", false),
            ("INSERT INTO x SELECT * FROM spu, sku", "shop", true),
        ] {
            assert_eq!(names_table(sql, database, watched), expect, "{sql}");
        }
    }
}
