//! Values of expressions: borrowed as long as nothing had to be computed.

use crate::warehouse::decimal::Decimal;
use std::{borrow::Cow, cmp::Ordering, fmt::Write as _};
use tidemark_proto::text;

/// The value of an expression.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    Null,
    /// A column's JSON token, unread; never `null`.
    Token(&'a str),
    Text(Cow<'a, str>),
    Number(Decimal),
    Boolean(bool),
}

/// Why an expression has no value for a row. Texts are one line, for
/// dead-letter headers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    #[error("{0} does not fit 38 digits")]
    Overflow(&'static str),
    #[error("{0} is not a number")]
    NotANumber(String),
    #[error("{0} is not a truth value")]
    NotBoolean(String),
    #[error("{0} and {1} cannot be compared: use CAST")]
    Unlike(String, String),
    #[error("{0} does not fit {1}")]
    TooWide(String, String),
    #[error("{0} is not a JSON value")]
    BadToken(String),
}

/// What a token holds, once it must be known.
#[derive(Debug)]
pub(crate) enum Scalar<'v> {
    Text(Cow<'v, str>),
    Number(Decimal),
    Boolean(bool),
    /// An object or an array.
    Nested,
}

impl<'a> Value<'a> {
    /// Takes a column's token.
    pub fn of_token(token: Option<&'a str>) -> Self {
        match token {
            None | Some("null") => Self::Null,
            Some(token) => Self::Token(token),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Appends the value as JSON text.
    pub fn write_token(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Token(token) => out.extend_from_slice(token.as_bytes()),
            Self::Text(text) => text::write_string(out, text),
            Self::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Boolean(true) => out.extend_from_slice(b"true"),
            Self::Boolean(false) => out.extend_from_slice(b"false"),
        }
    }

    /// The number, exactly; `None` for NULL. Truth values are 1 and 0.
    ///
    /// # Errors
    /// When it is text, nested JSON, or over 38 digits.
    pub fn number(&self) -> Result<Option<Decimal>, EvaluateError> {
        match self.scalar()? {
            None => Ok(None),
            Some(Scalar::Number(number)) => Ok(Some(number)),
            Some(Scalar::Boolean(truth)) => Ok(Some(Decimal::from(i64::from(truth)))),
            Some(Scalar::Text(_) | Scalar::Nested) => Err(EvaluateError::NotANumber(self.shown())),
        }
    }

    /// The value as text, numbers as they are written; `None` for NULL.
    ///
    /// # Errors
    /// When a token is not JSON.
    pub fn text(&self) -> Result<Option<Cow<'_, str>>, EvaluateError> {
        Ok(Some(match self {
            Self::Null => return Ok(None),
            Self::Token(token) if token.starts_with('"') => self.unquoted(token)?,
            Self::Token(token) => Cow::Borrowed(*token),
            Self::Text(text) => Cow::Borrowed(text.as_ref()),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Boolean(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        }))
    }

    /// TRUE, FALSE or, for NULL, unknown. A number is true unless it is 0.
    pub(crate) fn truth(&self) -> Result<Option<bool>, EvaluateError> {
        match self.scalar()? {
            None => Ok(None),
            Some(Scalar::Boolean(truth)) => Ok(Some(truth)),
            Some(Scalar::Number(number)) => Ok(Some(!number.is_zero())),
            Some(Scalar::Text(_) | Scalar::Nested) => Err(EvaluateError::NotBoolean(self.shown())),
        }
    }

    /// How two values compare: numbers as numbers, text by bytes. `None` when
    /// either is NULL.
    pub(crate) fn compare(&self, other: &Self) -> Result<Option<Ordering>, EvaluateError> {
        let (Some(left), Some(right)) = (self.scalar()?, other.scalar()?) else { return Ok(None) };
        let numeric = |scalar: &Scalar<'_>| match scalar {
            Scalar::Number(number) => Some(*number),
            Scalar::Boolean(truth) => Some(Decimal::from(i64::from(*truth))),
            Scalar::Text(_) | Scalar::Nested => None,
        };
        match (&left, &right) {
            (Scalar::Text(left), Scalar::Text(right)) => Ok(Some(left.as_bytes().cmp(right.as_bytes()))),
            _ => match (numeric(&left), numeric(&right)) {
                (Some(left), Some(right)) => Ok(Some(left.cmp(&right))),
                _ => Err(EvaluateError::Unlike(self.shown(), other.shown())),
            },
        }
    }

    fn scalar(&self) -> Result<Option<Scalar<'_>>, EvaluateError> {
        Ok(Some(match self {
            Self::Null => return Ok(None),
            Self::Text(text) => Scalar::Text(Cow::Borrowed(text.as_ref())),
            Self::Number(number) => Scalar::Number(*number),
            Self::Boolean(truth) => Scalar::Boolean(*truth),
            Self::Token(token) => match token.as_bytes().first() {
                Some(b'"') => Scalar::Text(self.unquoted(token)?),
                Some(b'{' | b'[') => Scalar::Nested,
                Some(b't') => Scalar::Boolean(true),
                Some(b'f') => Scalar::Boolean(false),
                _ => Scalar::Number(
                    Decimal::parse(token).ok_or_else(|| EvaluateError::NotANumber(self.shown()))?,
                ),
            },
        }))
    }

    fn unquoted<'v>(&self, token: &'v str) -> Result<Cow<'v, str>, EvaluateError> {
        text::string_value(token).ok_or_else(|| EvaluateError::BadToken(self.shown()))
    }

    /// For messages: the token, shortened.
    pub(crate) fn shown(&self) -> String {
        const CHARS_MAX: usize = 60;
        let mut token = Vec::new();
        self.write_token(&mut token);
        let text = String::from_utf8_lossy(&token);
        let mut shown: String = text.chars().take(CHARS_MAX).collect();
        if text.chars().nth(CHARS_MAX).is_some() {
            shown.write_char('…').ok();
        }
        shown
    }
}
