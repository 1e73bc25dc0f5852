//! The text of a statement as tokens, as far as MySQL writes them one way.
//!
//! What depends on settings of the session that ran the statement (backslashes
//! in strings, double quotes) is kept apart, so that nobody reads a value from
//! it.

/// A token of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or keyword without quotes, as it is spelled.
    Word(String),
    /// A name in backquotes.
    Name(String),
    /// A string whose value is known.
    Text(String),
    /// A string whose value, or a name whose meaning, depends on the session.
    Opaque,
    /// What begins with a digit: `1`, `1.50`, `1e3`, `0x4D`.
    Number(String),
    Symbol(char),
}

/// The tokens of a statement; `None` when it does not end, or has a comment that
/// only some servers read.
pub(super) fn tokens(sql: &str) -> Option<Vec<Token>> {
    let mut rest = sql;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, tail) = match first {
            _ if first.is_whitespace() => (None, rest.trim_start()),
            '#' => (None, after_line(rest)),
            '-' if rest.starts_with("--") && is_line_comment(rest) => (None, after_line(rest)),
            '/' if rest.starts_with("/*!") || rest.starts_with("/*M!") => return None,
            '/' if rest.starts_with("/*") => (None, rest.split_once("*/")?.1),
            '`' => named(quoted(rest, '`')?),
            '\'' => string(quoted(rest, '\'')?),
            '"' => (Some(Token::Opaque), quoted(rest, '"')?.1),
            '0'..='9' => number(rest),
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => number(rest),
            _ if is_word(first) => word(rest),
            _ => (Some(Token::Symbol(first)), rest.get(first.len_utf8()..)?),
        };
        tokens.extend(token);
        rest = tail;
    }
    Some(tokens)
}

fn is_word(symbol: char) -> bool {
    symbol.is_alphanumeric() || symbol == '_' || symbol == '$'
}

/// Two dashes begin a comment only before a blank.
fn is_line_comment(text: &str) -> bool {
    text.chars().nth(2).is_none_or(char::is_whitespace)
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

fn word(text: &str) -> (Option<Token>, &str) {
    let end = text.find(|symbol| !is_word(symbol)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (Some(Token::Word(word.to_owned())), rest)
}

fn number(text: &str) -> (Option<Token>, &str) {
    let mut previous = ' ';
    let is_hex = text.starts_with("0x");
    let end = text.find(|symbol: char| {
        let signs_exponent = matches!(previous, 'e' | 'E') && matches!(symbol, '+' | '-') && !is_hex;
        previous = symbol;
        !(symbol.is_ascii_alphanumeric() || symbol == '.' || signs_exponent)
    });
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    (Some(Token::Number(number.to_owned())), rest)
}

/// What is in quotes, and what follows. A doubled quote is one of the text; so
/// is one after a backslash, but in names.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut symbols = text.char_indices().skip(1).peekable();
    let mut inner = String::new();
    while let Some((at, symbol)) = symbols.next() {
        match symbol {
            '\\' if quote != '`' => {
                inner.push(symbol);
                inner.push(symbols.next()?.1);
            }
            _ if symbol != quote => inner.push(symbol),
            _ if symbols.peek().is_some_and(|(_, next)| *next == quote) => {
                symbols.next();
                inner.push(quote);
            }
            _ => return Some((inner, text.get(at + 1..)?)),
        }
    }
    None
}

fn named((name, rest): (String, &str)) -> (Option<Token>, &str) {
    (Some(Token::Name(name)), rest)
}

fn string((text, rest): (String, &str)) -> (Option<Token>, &str) {
    let token = if text.contains('\\') { Token::Opaque } else { Token::Text(text) };
    (Some(token), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_apart() {
        let word = |text: &str| Token::Word(text.into());
        let text = |text: &str| Token::Text(text.into());
        let number = |text: &str| Token::Number(text.into());
        for (sql, expect) in [
            ("a/* x */ `b``c`-- d\n", vec![word("a"), Token::Name("b`c".into())]),
            ("'it''s' 'a\\'b' \"x\"", vec![text("it's"), Token::Opaque, Token::Opaque]),
            ("-1.5e-3,0x4D", vec![Token::Symbol('-'), number("1.5e-3"), Token::Symbol(','), number("0x4D")]),
            ("b'101' .5", vec![word("b"), text("101"), number(".5")]),
        ] {
            assert_eq!(tokens(sql), Some(expect), "{sql}");
        }
        for sql in ["'a", "`a", "a /*!80000 b */", "a /* b"] {
            assert_eq!(tokens(sql), None, "{sql}");
        }
    }
}
