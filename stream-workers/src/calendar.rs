//! Dates and times of day in UTC, as days and seconds since 1970.
//!
//! Reads and writes the one form that MySQL, Maxwell and ClickHouse share
//! (`2024-02-29 23:59:59`). Knows no time zones: a DATETIME has none.

/// Seconds of a day.
pub const DAY_SECONDS: i64 = 86_400;

/// The day of `YYYY-MM-DD`; `None` when there is no such day.
pub fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    let (year, month, day) = (number(bytes, 0, 4)?, number(bytes, 5, 2)?, number(bytes, 8, 2)?);
    let valid = (1..=12).contains(&month) && (1..=days_of_month(year, month)).contains(&day);
    valid.then(|| days_from_civil(year, month, day))
}

/// The second of `YYYY-MM-DD hh:mm:ss`, or of midnight when there is only a
/// date; a fraction is cut off.
pub fn parse_datetime(text: &str) -> Option<i64> {
    let day = parse_date(text.get(..10)?)?;
    let Some(time) = text.get(10..).filter(|time| !time.is_empty()) else { return Some(day * DAY_SECONDS) };
    let bytes = time.as_bytes();
    let separated = matches!(bytes.first(), Some(b' ' | b'T'))
        && bytes.get(3) == Some(&b':')
        && bytes.get(6) == Some(&b':');
    let (hour, minute, second) = (number(bytes, 1, 2)?, number(bytes, 4, 2)?, number(bytes, 7, 2)?);
    let fraction = bytes.get(9..)?;
    let fraction_valid = match fraction.split_first() {
        None => true,
        Some((b'.', digits)) => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    let valid = separated && fraction_valid && hour < 24 && minute < 60 && second < 60;
    valid.then_some(day * DAY_SECONDS + hour * 3_600 + minute * 60 + second)
}

/// `YYYY-MM-DD`.
pub fn format_date(day: i64) -> String {
    let (year, month, day) = civil_from_days(day);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `YYYY-MM-DDThh:mm:ssZ`, as JSON interfaces write a moment.
pub fn format_timestamp(second: i64) -> String {
    let time = second.rem_euclid(DAY_SECONDS);
    let (hour, minute, second_of_minute) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{}T{hour:02}:{minute:02}:{second_of_minute:02}Z", format_date(second.div_euclid(DAY_SECONDS)))
}

fn number(bytes: &[u8], start: usize, length: usize) -> Option<i64> {
    let digit = |total: i64, byte: &u8| byte.is_ascii_digit().then(|| total * 10 + i64::from(byte - b'0'));
    bytes.get(start..start + length)?.iter().try_fold(0, digit)
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Howard Hinnant's `days_from_civil`: years begin in March, so that a leap
/// day is the last day of its year.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days_are_right() {
        let cases = [("1970-01-01", 0), ("2000-02-29", 11_016), ("2024-01-02", 19_724), ("1969-12-31", -1)];
        for (text, day) in cases {
            assert_eq!(parse_date(text), Some(day), "{text}");
            assert_eq!(format_date(day), text);
        }
    }

    #[test]
    fn known_moments_are_right() {
        assert_eq!(parse_datetime("2024-01-01 00:00:00"), Some(1_704_067_200));
        assert_eq!(parse_datetime("2024-01-01T00:00:09.123456"), Some(1_704_067_209));
        assert_eq!(parse_datetime("2024-01-01"), Some(1_704_067_200));
        assert_eq!(format_timestamp(1_704_067_209), "2024-01-01T00:00:09Z");
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in ["2023-02-29", "0000-00-00", "2024-13-01", "2024-1-01", "2024-01-01x", "", "é024-01-01"]
        {
            assert_eq!(parse_date(text), None, "{text}");
        }
        for text in
            ["2024-01-01 24:00:00", "2024-01-01 1:00:00", "2024-01-01 00:00:00.", "2024-01-01 00:00:00Z"]
        {
            assert_eq!(parse_datetime(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn days_read_back(day in -719_000i64..2_900_000) {
            prop_assert_eq!(parse_date(&format_date(day)), Some(day));
        }
    }
}
