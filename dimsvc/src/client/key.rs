//! Keys as people write them, and where they come from.

use super::failure::Failure;
use serde_json::value::RawValue;
use std::io::BufRead;
use tidemark_proto::text::write_string;

/// The key as the API takes it: a JSON array as it stands, any other text as
/// the value of a single column. The service reads a number from a string, so
/// the column's type need not be known.
pub(super) fn key(text: &str) -> Result<String, Failure> {
    if !text.starts_with('[') {
        let mut key = vec![b'['];
        write_string(&mut key, text);
        key.push(b']');
        return Ok(String::from_utf8_lossy(&key).into_owned());
    }
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Failure::Usage(format!(
            "`{text}` is not a JSON array ({error}); a bare value that begins with [ is written as [\"[...\"]"
        ))),
    }
}

/// The keys of the arguments, with the lines of `input` in place of `-`.
pub(super) fn keys(
    arguments: &[String],
    mut input: impl BufRead,
) -> impl Iterator<Item = Result<String, Failure>> {
    let mut arguments = arguments.iter();
    let mut reading = false;
    std::iter::from_fn(move || {
        loop {
            if !reading {
                let argument = arguments.next()?;
                reading = argument == "-";
                if !reading {
                    return Some(key(argument));
                }
            }
            let mut line = String::new();
            match input.read_line(&mut line) {
                Ok(0) => reading = false,
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => return Some(key(line.trim_end_matches(['\n', '\r']))),
                Err(error) => return Some(Err(Failure::Usage(format!("standard input: {error}")))),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_value_is_a_key_of_one_column() {
        let cases = [
            ("15", r#"["15"]"#),
            ("abc", r#"["abc"]"#),
            ("a\"b\\", r#"["a\"b\\"]"#),
            ("省", "[\"省\"]"),
            (r#"["a", 3]"#, r#"["a", 3]"#),
            ("", r#"[""]"#),
        ];
        for (text, expect) in cases {
            assert_eq!(key(text).unwrap(), expect);
        }
        for text in ["[1", "[1]x", "[a]"] {
            assert!(key(text).unwrap_err().to_string().contains("is not a JSON array"), "{text}");
        }
    }

    #[test]
    fn a_dash_is_replaced_by_the_lines_of_the_input() {
        let arguments = ["1".to_owned(), "-".to_owned(), "4".to_owned(), "-".to_owned()];
        let keys: Result<Vec<_>, _> = keys(&arguments, &b"2\r\n\n[3]\nx y"[..]).collect();
        assert_eq!(keys.unwrap(), [r#"["1"]"#, r#"["2"]"#, "[3]", r#"["x y"]"#, r#"["4"]"#]);
    }

    #[test]
    fn a_line_that_is_no_key_is_an_error_not_the_end() {
        let arguments = ["-".to_owned()];
        let results: Vec<_> = keys(&arguments, &b"1\n[\n2\n"[..]).map(|key| key.is_ok()).collect();
        assert_eq!(results, [true, false, true]);
    }
}
