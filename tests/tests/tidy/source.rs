//! Just enough of Rust's grammar to measure functions.

/// A function and the lines from its `fn` to its closing brace.
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line of its `fn`, from 1.
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// Every function with a body, in the order of the text.
pub(crate) fn functions(text: &str) -> Vec<Function> {
    let code = blank_out(text);
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("fn ").map(|at| from + at) {
        from = at + 3;
        let starts_word = code[..at].chars().next_back().is_none_or(|before| !is_word(before));
        let name: String = code[from..].chars().take_while(|letter| is_word(*letter)).collect();
        if !starts_word || name.is_empty() {
            continue;
        }
        // A `;` first is a declaration; one within `[u8; 4]` is not.
        let Some(end) = body_end(&code[from..]) else { continue };
        let line_of = |at: usize| code[..at].matches('\n').count() + 1;
        found.push(Function { name, line: line_of(at), lines: line_of(from + end) - line_of(at) + 1 });
    }
    found
}

/// Where the body that begins in `code` ends; `None` when there is no body.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0_u32, 0_u32);
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(at);
                }
            }
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets = brackets.checked_sub(1)?,
            ';' if braces == 0 && brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The text with comments, strings and characters blanked out, line by line
/// where it was.
fn blank_out(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let before = code.chars().next_back().unwrap_or(' ');
        let length = opaque(rest, before).unwrap_or(0);
        if length == 0 {
            code.push(letter);
            rest = &rest[letter.len_utf8()..];
            continue;
        }
        code.extend(rest[..length].chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    code
}

/// The length of the comment, string or character that begins here.
fn opaque(rest: &str, before: char) -> Option<usize> {
    let to =
        |end: &str, from: usize| Some(rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len()));
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return to("*/", 2);
    }
    if rest.starts_with('r') && !is_word(before) || rest.starts_with("br") && !is_word(before) {
        let quoted = rest.trim_start_matches('b').strip_prefix('r')?;
        let hashes = quoted.len() - quoted.trim_start_matches('#').len();
        if quoted[hashes..].starts_with('"') {
            let open = rest.len() - quoted.len() + hashes + 1;
            return to(&format!("\"{}", "#".repeat(hashes)), open);
        }
    }
    if rest.starts_with('"') {
        return escaped_end(rest, '"');
    }
    // `'a'` and `'\n'` are characters, `'a` is a lifetime.
    let character = rest.strip_prefix('\'')?;
    let first = character.chars().next()?;
    let closes = character[first.len_utf8()..].starts_with('\'');
    if first == '\\' || closes { escaped_end(rest, '\'') } else { None }
}

fn escaped_end(rest: &str, quote: char) -> Option<usize> {
    let mut skip = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if skip => skip = false,
            '\\' => skip = true,
            _ if letter == quote => return Some(at + letter.len_utf8()),
            _ => {}
        }
    }
    Some(rest.len())
}

#[test]
fn functions_are_measured_past_strings_and_comments() {
    let text = "trait T { fn declared(&self, a: [u8; 4]); }\n\
                fn one() -> [u8; 2] { \"}\\\"}\"; '}'; r#\"}\"}\"#; /* } */ // }\n}\n\
                /// fn in a comment() {\n\
                pub async fn three<'a>(x: &'a str) {\n  if true {\n  } }\n";
    let found: Vec<_> = functions(text).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(found, [("one".to_owned(), 2, 2), ("three".to_owned(), 5, 3)]);
}
