//! Sets of global transaction identifiers, in MySQL's text form.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A set of GTIDs: `uuid:1-5:7,uuid2:1-3`, with the tags of MySQL 8.4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GtidSet {
    /// Ranges with both ends in the set, in order, never touching, of each
    /// source; a source with a tag is `uuid:tag`.
    sources: BTreeMap<String, Vec<(u64, u64)>>,
}

/// Text that is not a GTID or a set of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a GTID set: write it as uuid:1-5:7")]
pub struct GtidError(String);

impl GtidSet {
    /// Whether it has no GTID.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Adds a GTID (`uuid:7`) or a set of them.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn add(&mut self, text: &str) -> Result<(), GtidError> {
        self.add_set(&text.parse()?);
        Ok(())
    }

    /// Adds another set.
    pub fn add_set(&mut self, added: &Self) {
        for (source, ranges) in &added.sources {
            for range in ranges {
                self.add_range(source, *range);
            }
        }
    }

    /// Whether every GTID of the other set is in this one.
    pub fn contains(&self, other: &Self) -> bool {
        other.sources.iter().all(|(source, ranges)| {
            let own = self.sources.get(source).map_or(&[][..], Vec::as_slice);
            ranges.iter().all(|(first, last)| own.iter().any(|(from, to)| from <= first && last <= to))
        })
    }

    /// Adds the numbers from the first to the last, both included.
    fn add_range(&mut self, source: &str, (mut first, mut last): (u64, u64)) {
        let ranges = match self.sources.get_mut(source) {
            Some(ranges) => ranges,
            None => self.sources.entry(source.to_owned()).or_default(),
        };
        let start = ranges.partition_point(|(_, to)| to.saturating_add(1) < first);
        let end = ranges.partition_point(|(from, _)| *from <= last.saturating_add(1));
        for (from, to) in ranges.drain(start..end.max(start)) {
            first = first.min(from);
            last = last.max(to);
        }
        ranges.insert(start, (first, last));
    }
}

impl FromStr for GtidSet {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut set = Self::default();
        for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            set.add_source(member).ok_or_else(|| GtidError(text.to_owned()))?;
        }
        Ok(set)
    }
}

impl GtidSet {
    /// One `uuid:1-5:tag:7`; `None` when the text has another form.
    fn add_source(&mut self, member: &str) -> Option<()> {
        let mut parts = member.split(':').map(str::trim);
        let uuid = parts.next().filter(|uuid| is_uuid(uuid))?.to_ascii_lowercase();
        let (mut source, mut ranges) = (uuid.clone(), 0);
        for part in parts {
            if part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
                source = format!("{uuid}:{}", part.to_ascii_lowercase());
                continue;
            }
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range: (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if range.0 == 0 || range.1 < range.0 {
                return None;
            }
            self.add_range(&source, range);
            ranges += 1;
        }
        (ranges > 0).then_some(())
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (source, ranges)) in self.sources.iter().enumerate() {
            f.write_str(if at > 0 { "," } else { "" })?;
            f.write_str(source)?;
            for (first, last) in ranges {
                if first == last {
                    write!(f, ":{first}")?;
                } else {
                    write!(f, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

/// A GTID as text, from the parts that events carry.
pub(crate) fn gtid_text(uuid: [u8; 16], tag: Option<&str>, number: u64) -> String {
    format!("{}:{number}", source_text(uuid, tag))
}

/// A source as text: its UUID, and its tag if it has one.
pub(crate) fn source_text(uuid: [u8; 16], tag: Option<&str>) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(uuid));
    let mut text = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    if let Some(tag) = tag {
        text.push(':');
        text.push_str(tag);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn text_comes_back_in_its_shortest_form() {
        for (text, expect) in [
            (String::new(), String::new()),
            (format!("{A}:1-5:7"), format!("{A}:1-5:7")),
            (format!("{A}:7:1-3:4-5:6-6"), format!("{A}:1-7")),
            (format!("{B}:3 ,\n {A}:1:3:2"), format!("{A}:1-3,{B}:3")),
            (format!("{}:1", A.to_uppercase()), format!("{A}:1")),
            (format!("{A}:1-2:backup:4:5"), format!("{A}:1-2,{A}:backup:4-5")),
        ] {
            assert_eq!(set(&text).to_string(), expect, "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["x", "x:1", A, &format!("{A}:"), &format!("{A}:0"), &format!("{A}:5-3"), &format!("{A}:1-x")]
        {
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_set_contains_what_was_added() {
        let mut seen = set(&format!("{A}:1-5"));
        seen.add(&format!("{A}:7")).unwrap();
        seen.add(&format!("{B}:1")).unwrap();
        assert_eq!(seen, set(&format!("{A}:1-5:7,{B}:1")));
        assert!(seen.contains(&set(&format!("{A}:2-4:7"))));
        assert!(seen.contains(&GtidSet::default()));
        assert!(!seen.contains(&set(&format!("{A}:5-7"))));
        assert!(!seen.contains(&set(&format!("{A}:1,{B}:2"))));
    }

    #[test]
    fn event_parts_become_text() {
        let uuid =
            [0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62];
        assert_eq!(gtid_text(uuid, None, 23), format!("{A}:23"));
        assert_eq!(gtid_text(uuid, Some("x"), 2), format!("{A}:x:2"));
    }

    proptest! {
        #[test]
        fn adding_in_any_order_gives_one_set(numbers in proptest::collection::vec(1u64..40, 0..30)) {
            let mut grown = GtidSet::default();
            for number in &numbers {
                grown.add(&format!("{A}:{number}")).unwrap();
            }
            for number in 1..40 {
                let single = set(&format!("{A}:{number}"));
                prop_assert_eq!(grown.contains(&single), numbers.contains(&number));
            }
            prop_assert_eq!(set(&grown.to_string()), grown);
        }
    }
}
