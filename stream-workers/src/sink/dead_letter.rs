//! Messages that cannot be used, kept with the reason.
//!
//! Headers carry Kafka Connect's names, so that tools for its dead letters read
//! ours. Key and value are the original's.

use super::kafka::Message;
use crate::source::Record;
use rdkafka::message::{Header, OwnedHeaders};

/// The longest reason in a header; brokers count headers as message bytes.
const REASON_BYTES_MAX: usize = 1024;

/// What happened to a message and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The step that could not use it: `parse`, `evaluate`, `lookup`, `write`.
    pub stage: &'static str,
    /// One line.
    pub message: String,
}

impl Reason {
    /// Why a step could not use a message.
    pub fn new(stage: &'static str, message: impl std::fmt::Display) -> Self {
        Self { stage, message: message.to_string() }
    }
}

/// The dead letter for a message of `source_topic`.
pub fn message<'a>(topic: &'a str, source_topic: &str, record: &Record<'a>, reason: &Reason) -> Message<'a> {
    let text = one_line(&reason.message);
    let headers = [
        ("__connect.errors.topic", source_topic),
        ("__connect.errors.partition", &record.at.partition.to_string()),
        ("__connect.errors.offset", &record.offset.to_string()),
        ("__connect.errors.stage", reason.stage),
        ("__connect.errors.exception.message", text),
    ];
    let owned = headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |owned, (key, value)| {
        owned.insert(Header { key, value: Some(*value) })
    });
    Message { topic, partition: None, key: record.key, payload: record.payload, headers: Some(owned) }
}

/// The first line, cut at a character's bound.
fn one_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    let end = (0..=REASON_BYTES_MAX.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    line.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TopicPartition;
    use rdkafka::message::Headers as _;

    #[test]
    fn a_dead_letter_keeps_the_message_and_says_why() {
        let at = TopicPartition { topic: 0, partition: 3 };
        let record = Record { at, offset: 42, timestamp: 0, key: Some(b"k"), payload: Some(b"{oops") };
        let letter = message("dead", "topic_db", &record, &Reason::new("parse", "not JSON\nat all"));
        assert_eq!(
            (letter.topic, letter.key, letter.payload),
            ("dead", Some(&b"k"[..]), Some(&b"{oops"[..]))
        );
        let headers = letter.headers.unwrap();
        let read: Vec<_> = headers
            .iter()
            .map(|header| (header.key, String::from_utf8(header.value.unwrap().to_vec()).unwrap()))
            .collect();
        let expect = [
            ("__connect.errors.topic", "topic_db"),
            ("__connect.errors.partition", "3"),
            ("__connect.errors.offset", "42"),
            ("__connect.errors.stage", "parse"),
            ("__connect.errors.exception.message", "not JSON"),
        ];
        assert_eq!(read, expect.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let text = "é".repeat(REASON_BYTES_MAX);
        assert_eq!(one_line(&text).len(), REASON_BYTES_MAX);
        assert_eq!(one_line(&text[..1024]), &text[..1024]);
        let odd = format!("x{text}");
        assert_eq!(one_line(&odd).len(), REASON_BYTES_MAX - 1);
    }
}
