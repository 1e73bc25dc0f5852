//! The definition of a column in an ALTER: its kind, and what rows that were
//! there before read in it.
//!
//! Both are taken from the text of the statement alone, so that they are the
//! same whenever it is read. What the text does not settle is refused.

use super::{tokens::Token, types::column_type};
use crate::change::{Column, ColumnKind};
use crate::value::{Literal, implicit_default, write_literal};

/// A column as a statement defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDefinition {
    pub name: String,
    /// The type as MySQL would show it: `decimal(16,2)`; empty where it is not
    /// known.
    pub column_type: String,
    pub nullable: bool,
    /// Its character set is named, so that texts may be written anew.
    pub names_charset: bool,
    /// How its values are written; or why the definition is not understood to
    /// its end: then what else it says, as NOT NULL, is not known either.
    pub kind: Result<ColumnKind, &'static str>,
    /// The token that older rows read in it once it is added; or why the text
    /// does not settle it.
    pub older_rows_read: Result<String, &'static str>,
}

impl ColumnDefinition {
    /// The column, when its definition is understood.
    pub fn column(&self) -> Option<Column> {
        let kind = self.kind.clone().ok()?;
        Some(Column { name: self.name.clone(), kind })
    }
}

/// Tokens of one specification, taken from the front.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'t> {
    rest: &'t [Token],
}

impl<'t> Cursor<'t> {
    pub(super) fn new(tokens: &'t [Token]) -> Self {
        Self { rest: tokens }
    }

    pub(super) fn next(&mut self) -> Option<&'t Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next token in upper case, when it is a word.
    pub(super) fn keyword(&self) -> String {
        match self.rest.first() {
            Some(Token::Word(word)) => word.to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    /// Takes these words, all or none.
    pub(super) fn take(&mut self, words: &[&str]) -> bool {
        let mut ahead = self.clone();
        let taken = words.iter().all(|word| ahead.keyword() == *word && ahead.next().is_some());
        if taken {
            self.rest = ahead.rest;
        }
        taken
    }

    pub(super) fn symbol(&mut self, symbol: char) -> bool {
        let found = self.rest.first() == Some(&Token::Symbol(symbol));
        if found {
            self.next();
        }
        found
    }

    /// A name, in backquotes or not; none of which bytes were lost, because the
    /// session wrote another character set than UTF-8.
    pub(super) fn name(&mut self) -> Option<String> {
        match self.next()? {
            Token::Word(name) | Token::Name(name) if !name.contains('\u{FFFD}') => Some(name.clone()),
            _ => None,
        }
    }

    /// What stands between the brackets that follow; empty without brackets.
    pub(super) fn bracketed(&mut self) -> Option<&'t [Token]> {
        if !self.symbol('(') {
            return Some(&[]);
        }
        let inner = self.rest;
        let mut depth = 1;
        for (at, token) in inner.iter().enumerate() {
            match token {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.rest = inner.get(at + 1..)?;
                return inner.get(..at);
            }
        }
        None
    }
}

/// Reads `NAME TYPE ATTRIBUTE…`; `None` when it is no column's definition.
pub(super) fn column_definition(cursor: &mut Cursor<'_>) -> Option<ColumnDefinition> {
    let name = cursor.name()?;
    let mut found = Attributes::default();
    let typed = column_type(cursor).and_then(|typed| charset(cursor, &mut found).map(|()| typed));
    let typed = typed.and_then(|typed| attributes(cursor, &mut found).map(|()| typed));
    let (nullable, names_charset) = (!found.not_null, found.names_charset);
    let (kind, column_type) = match typed {
        Ok((kind, column_type)) => (Ok(kind), column_type),
        Err(why) => (Err(why), String::new()),
    };
    let is_char = column_type.starts_with("char");
    let older_rows_read =
        kind.as_ref().map_err(|why| *why).and_then(|kind| older_rows_read(kind, is_char, &found));
    Some(ColumnDefinition { name, column_type, nullable, names_charset, kind, older_rows_read })
}

fn older_rows_read(
    kind: &ColumnKind,
    is_char: bool,
    attributes: &Attributes,
) -> Result<String, &'static str> {
    const INEXACT: &str = "the statement does not settle its default";
    if attributes.computed {
        return Err("its default is no constant");
    }
    if attributes.numbered {
        return Err("MySQL numbers its rows");
    }
    let mut out = Vec::new();
    let is_timestamp = matches!(kind, ColumnKind::Timestamp { .. });
    match &attributes.default {
        Some(Literal::Null) => out.extend_from_slice(b"null"),
        // Its constant is in the session's time zone, and without one it depends
        // on explicit_defaults_for_timestamp.
        _ if is_timestamp && !(attributes.null && attributes.default.is_none()) => return Err(INEXACT),
        // Its bytes are of the session's character set, and the column's may lack
        // the character.
        Some(Literal::Text(text)) if !text.is_ascii() => return Err(INEXACT),
        Some(Literal::Text(text)) if is_char => {
            // CHAR values end before their trailing spaces.
            let text = text.trim_end_matches(' ').to_owned();
            write_literal(&mut out, &Literal::Text(text), kind).ok_or(INEXACT)?;
        }
        Some(literal) => write_literal(&mut out, literal, kind).ok_or(INEXACT)?,
        None if !attributes.not_null => out.extend_from_slice(b"null"),
        None => implicit_default(&mut out, kind).ok_or(INEXACT)?,
    }
    String::from_utf8(out).map_err(|_| INEXACT)
}

#[derive(Debug, Default)]
struct Attributes {
    null: bool,
    not_null: bool,
    names_charset: bool,
    /// The default is no constant.
    computed: bool,
    /// AUTO_INCREMENT.
    numbered: bool,
    default: Option<Literal>,
}

/// What follows a column's type; the error says why it is not understood.
fn attributes(cursor: &mut Cursor<'_>, found: &mut Attributes) -> Result<(), &'static str> {
    while !cursor.is_empty() {
        let known = if cursor.take(&["NOT", "NULL"]) {
            found.not_null = true;
            true
        } else if cursor.take(&["NULL"]) {
            found.null = true;
            true
        } else if cursor.take(&["DEFAULT"]) {
            default(cursor, found).is_some()
        } else if cursor.take(&["ON", "UPDATE"]) {
            cursor.name().is_some() && cursor.bracketed().is_some()
        } else if cursor.take(&["COMMENT"]) {
            matches!(cursor.next(), Some(Token::Text(_) | Token::Opaque))
        } else if cursor.take(&["COLLATE"]) || cursor.take(&["COLUMN_FORMAT"]) || cursor.take(&["STORAGE"]) {
            cursor.name().is_some_and(|name| !name.eq_ignore_ascii_case("binary"))
        } else if cursor.take(&["AFTER"]) {
            cursor.name().is_some()
        } else if cursor.take(&["UNIQUE"]) {
            // With or without KEY.
            cursor.take(&["KEY"]);
            true
        } else if cursor.take(&["AUTO_INCREMENT"]) {
            found.numbered = true;
            true
        } else {
            cursor.take(&["FIRST"]) || cursor.take(&["VISIBLE"]) || cursor.take(&["INVISIBLE"])
        };
        if !known {
            return Err(match cursor.keyword().as_str() {
                "GENERATED" | "AS" => "its values are generated",
                _ => "its definition is not understood",
            });
        }
    }
    Ok(())
}

/// Takes what follows DEFAULT: a constant or an expression.
fn default(cursor: &mut Cursor<'_>, found: &mut Attributes) -> Option<()> {
    let mut ahead = cursor.clone();
    found.default = literal(&mut ahead);
    if found.default.is_some() {
        *cursor = ahead;
        return Some(());
    }
    found.computed = true;
    if cursor.rest.first() != Some(&Token::Symbol('(')) {
        cursor.next()?;
    }
    cursor.bracketed().map(drop)
}

/// A constant; `None` for an expression.
fn literal(cursor: &mut Cursor<'_>) -> Option<Literal> {
    let negative = cursor.symbol('-');
    if negative || cursor.symbol('+') {
        let Some(Token::Number(number)) = cursor.next() else { return None };
        return Some(Literal::Number(if negative { format!("-{number}") } else { number.clone() }));
    }
    match cursor.next()? {
        Token::Text(text) => Some(Literal::Text(text.clone())),
        Token::Number(number) => match number.strip_prefix("0x") {
            Some(hex) => unhex(hex).map(Literal::Bytes),
            None => Some(Literal::Number(number.clone())),
        },
        Token::Word(word) => {
            let prefixed = match cursor.rest.first() {
                Some(Token::Text(text)) => Some(text.clone()),
                _ => None,
            };
            match (word.to_ascii_uppercase().as_str(), prefixed) {
                ("NULL", None) => Some(Literal::Null),
                ("TRUE", None) => Some(Literal::Number(String::from("1"))),
                ("FALSE", None) => Some(Literal::Number(String::from("0"))),
                ("X", Some(hex)) => cursor.next().and_then(|_| unhex(&hex)).map(Literal::Bytes),
                ("B", Some(bits)) => cursor.next().and_then(|_| unbit(&bits)).map(Literal::Bytes),
                ("N" | "_UTF8MB4" | "DATE" | "TIME", Some(text)) => {
                    cursor.next();
                    Some(Literal::Text(text))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let padded = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    padded.as_bytes().chunks(2).map(pair).collect()
}

fn unbit(bits: &str) -> Option<Vec<u8>> {
    let value = u64::from_str_radix(bits, 2).ok()?;
    let width = bits.len().div_ceil(8).min(8);
    value.to_be_bytes().get(8 - width..).map(<[u8]>::to_vec)
}

/// A character set does not change the token of a text, unless it makes it bytes.
fn charset(cursor: &mut Cursor<'_>, found: &mut Attributes) -> Result<(), &'static str> {
    if cursor.take(&["CHARACTER", "SET"]) || cursor.take(&["CHARSET"]) {
        found.names_charset = true;
        let name = cursor.name().unwrap_or_default();
        if name.is_empty() || name.eq_ignore_ascii_case("binary") {
            return Err("its character set is binary");
        }
    }
    Ok(())
}
