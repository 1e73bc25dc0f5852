//! Read points and positions as people write them.

use tidemark_proto::{
    Position,
    dim::v1::{self, Latest, Now, ReadPoint, position::Place, read_point::Point},
};

/// What `--at` names.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum At {
    Latest,
    Place(Place),
}

/// `latest`, or a place.
pub(super) fn at(text: &str) -> Result<At, String> {
    if text == "latest" { Ok(At::Latest) } else { place(text).map(At::Place) }
}

/// `now`, `binlog.000012:3456`, `1/000012:3456`, or `uuid:23`.
pub(super) fn place(text: &str) -> Result<Place, String> {
    if text == "now" {
        return Ok(Place::Now(Now {}));
    }
    if is_gtid(text) {
        return Ok(Place::Gtid(text.to_owned()));
    }
    let malformed = || {
        format!(
            "`{text}` is not a position: write now, binlog.000012:3456, 1/000012:3456 (epoch first), or a GTID \
             as 3e11fa47-71ca-11e1-9e33-c80aa9429562:23"
        )
    };
    if let Some((epoch, rest)) = text.split_once('/') {
        let epoch = epoch.parse().map_err(|_| malformed())?;
        let position = Position::parse(rest, epoch).map_err(|_| malformed())?;
        return Ok(Place::Packed(position.packed()));
    }
    Position::parse(text, 0).map_err(|_| malformed())?;
    Ok(Place::FileOffset(text.to_owned()))
}

/// The read point of `--at` or `--at-least`; the service's default for neither.
pub(super) fn read_point(at: Option<&At>, at_least: Option<&Place>) -> Option<ReadPoint> {
    let position = |place: &Place| v1::Position { place: Some(place.clone()) };
    let point = match (at, at_least) {
        (Some(At::Latest), _) => Point::Latest(Latest {}),
        (Some(At::Place(place)), _) => Point::AsOf(position(place)),
        (None, Some(place)) => Point::AtLeast(position(place)),
        (None, None) => return None,
    };
    Some(ReadPoint { point: Some(point) })
}

/// A server's uuid and a number.
fn is_gtid(text: &str) -> bool {
    let Some((uuid, number)) = text.split_once(':') else { return false };
    let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12]
        && uuid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        && number.parse::<u64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_position_is_read() {
        let gtid = "3e11fa47-71ca-11e1-9e33-c80aa9429562:23";
        let packed = Position::try_new(2, 12, 3456).unwrap().packed();
        let cases = [
            ("now", Place::Now(Now {})),
            ("binlog.000012:3456", Place::FileOffset("binlog.000012:3456".into())),
            ("2/000012:3456", Place::Packed(packed)),
            (gtid, Place::Gtid(gtid.into())),
        ];
        for (text, expect) in cases {
            assert_eq!(place(text), Ok(expect), "{text}");
        }
        assert_eq!(at("latest"), Ok(At::Latest));
    }

    #[test]
    fn a_printed_position_can_be_typed() {
        let position = Position::try_new(3, 7, 99).unwrap();
        assert_eq!(place(&position.to_string()), Ok(Place::Packed(position.packed())));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "15", "x/1:1", "9999/1:1", "binlog.000001", "3e11fa47:23", "1/binlog.x:4"] {
            assert!(place(text).unwrap_err().contains("is not a position"), "{text}");
        }
    }

    #[test]
    fn the_read_point_is_the_one_that_was_named() {
        let point = |at: Option<At>, at_least: Option<Place>| {
            read_point(at.as_ref(), at_least.as_ref()).and_then(|point| point.point)
        };
        assert_eq!(point(None, None), None);
        assert_eq!(point(Some(At::Latest), None), Some(Point::Latest(Latest {})));
        let now = Place::Now(Now {});
        let position = v1::Position { place: Some(now.clone()) };
        assert_eq!(point(Some(At::Place(now.clone())), None), Some(Point::AsOf(position.clone())));
        assert_eq!(point(None, Some(now)), Some(Point::AtLeast(position)));
    }
}
