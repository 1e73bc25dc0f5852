//! Names and texts as ClickHouse's SQL writes them.

/// A name in backquotes.
pub fn identifier(name: &str) -> String {
    quoted(name, '`')
}

/// `database`.`table`.
pub fn table(database: &str, name: &str) -> String {
    format!("{}.{}", identifier(database), identifier(name))
}

/// A string literal: what is in it cannot end it.
pub fn string(text: &str) -> String {
    quoted(text, '\'')
}

fn quoted(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if character == quote => {
                out.push('\\');
                out.push(character);
            }
            _ => out.push(character),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_stay_inside() {
        assert_eq!(string(r"a'b\c"), r"'a\'b\\c'");
        assert_eq!(string("' OR 1=1 --\n\0"), r"'\' OR 1=1 --\n\0'");
        assert_eq!(string(r"\'"), r"'\\\''");
        assert_eq!(identifier("a`b"), r"`a\`b`");
        assert_eq!(table("d", "t"), "`d`.`t`");
    }
}
