//! The JSON form of each kind of value, from its parts.

use super::Fault;

const DIGITS_PER_GROUP: usize = 9;
/// Bytes that 0 to 9 decimal digits take in the binary decimal format.
const GROUP_BYTES: [usize; DIGITS_PER_GROUP + 1] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
/// MySQL writes a double without an exponent while its decimal point lies
/// within so many digits (DBL_DIG) of the first one.
const PLAIN_DIGITS_MAX: i32 = 15;

/// A calendar date and a time of day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) year: u32,
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
    pub(super) micros: u32,
}

impl Moment {
    /// UTC, from seconds since 1970; 0 is how MySQL stores the zero date.
    pub(super) fn from_unix(seconds: u32, micros: u32) -> Self {
        if seconds == 0 && micros == 0 {
            return Self::default();
        }
        let (year, month, day) = civil(seconds / 86_400);
        let of_day = seconds % 86_400;
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        Self { year, month, day, hour, minute, second, micros }
    }

    /// From the packed integer that DATETIME columns and JSON documents store.
    pub(super) fn from_packed(packed: u64) -> Self {
        let (date, time) = (packed >> 41, packed >> 24 & 0x1_ffff);
        let months = date >> 5;
        Self {
            year: narrow(months / 13),
            month: narrow(months % 13),
            day: narrow(date & 31),
            hour: narrow(time >> 12),
            minute: narrow(time >> 6 & 63),
            second: narrow(time & 63),
            micros: narrow(packed & 0xff_ffff),
        }
    }

    pub(super) fn write_date(&self, out: &mut Vec<u8>) {
        write_padded(out, self.year, 4);
        out.push(b'-');
        write_padded(out, self.month, 2);
        out.push(b'-');
        write_padded(out, self.day, 2);
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, digits: u8) {
        self.write_date(out);
        out.push(b' ');
        Span {
            negative: false,
            hours: self.hour,
            minutes: self.minute,
            seconds: self.second,
            micros: self.micros,
        }
        .write(out, digits);
    }
}

/// A value of TIME: a signed span of up to 838 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) negative: bool,
    pub(super) hours: u32,
    pub(super) minutes: u32,
    pub(super) seconds: u32,
    pub(super) micros: u32,
}

impl Span {
    /// From the packed integer that TIME columns and JSON documents store.
    pub(super) fn from_packed(packed: i64) -> Self {
        let size = packed.unsigned_abs();
        let time = size >> 24;
        Self {
            negative: packed < 0,
            hours: narrow(time >> 12 & 0x3ff),
            minutes: narrow(time >> 6 & 63),
            seconds: narrow(time & 63),
            micros: narrow(size & 0xff_ffff),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, digits: u8) {
        if self.negative {
            out.push(b'-');
        }
        write_padded(out, self.hours, 2);
        out.push(b':');
        write_padded(out, self.minutes, 2);
        out.push(b':');
        write_padded(out, self.seconds, 2);
        let digits = digits.min(6);
        if digits > 0 {
            out.push(b'.');
            write_padded(out, self.micros / 10u32.pow(6 - u32::from(digits)), usize::from(digits));
        }
    }
}

/// Days since 1970 to a date of the Gregorian calendar; counts in eras of 400
/// years that begin in March, so that the leap day ends a year.
fn civil(days: u32) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u32::from(month <= 2), month, day)
}

/// The callers mask their values to less than 32 bits.
fn narrow(value: u64) -> u32 {
    (value & u64::from(u32::MAX)) as u32
}

pub(super) fn write_uint(out: &mut Vec<u8>, mut value: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + (value % 10) as u8);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

pub(super) fn write_int(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_uint(out, value.unsigned_abs());
}

/// At least `width` digits.
pub(super) fn write_padded(out: &mut Vec<u8>, value: u32, width: usize) {
    let length = value.checked_ilog10().map_or(1, |log| log as usize + 1);
    out.resize(out.len() + width.saturating_sub(length), b'0');
    write_uint(out, u64::from(value));
}

/// A FLOAT: its shortest digits that read back as the same FLOAT.
pub(super) fn write_float(out: &mut Vec<u8>, value: f32) {
    write_scientific(out, &format!("{value:e}"));
}

/// A DOUBLE, in the form that MySQL gives doubles in JSON documents: shortest
/// digits, always with a point or an exponent.
pub(super) fn write_double(out: &mut Vec<u8>, value: f64) {
    write_scientific(out, &format!("{value:e}"));
}

/// Writes `-1.25e-7`, which is how Rust gives shortest digits, in MySQL's form.
fn write_scientific(out: &mut Vec<u8>, text: &str) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    if unsigned.len() < mantissa.len() {
        out.push(b'-');
    }
    let (first, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let point = exponent + 1;
    if !(1 - PLAIN_DIGITS_MAX..=PLAIN_DIGITS_MAX).contains(&point) {
        out.extend_from_slice(unsigned.as_bytes());
        out.push(b'e');
        write_int(out, i64::from(exponent));
        return;
    }
    let digits = first.bytes().chain(fraction.bytes());
    let before = usize::try_from(point).unwrap_or(0);
    if before == 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + point.unsigned_abs() as usize, b'0');
        out.extend(digits);
        return;
    }
    let start = out.len();
    out.extend(digits.clone().take(before));
    out.resize(start + before, b'0');
    out.push(b'.');
    let tail = out.len();
    out.extend(digits.skip(before));
    if out.len() == tail {
        out.push(b'0');
    }
}

/// A DECIMAL in its binary format: groups of 9 digits in 4 bytes, big-endian,
/// the first bit inverted, all bits inverted when negative.
pub(super) fn write_binary_decimal(
    out: &mut Vec<u8>,
    bytes: &[u8],
    scale: usize,
    precision: usize,
) -> Result<(), Fault> {
    let whole = precision.checked_sub(scale).ok_or(Fault::Form)?;
    let negative = bytes.first().ok_or(Fault::Short)? & 0x80 == 0;
    let mut bytes = bytes.iter().enumerate().map(|(at, byte)| {
        let byte = if at == 0 { byte ^ 0x80 } else { *byte };
        if negative { !byte } else { byte }
    });
    let mut group = |digits: usize| {
        let width = GROUP_BYTES.get(digits).copied().unwrap_or(0);
        bytes.by_ref().take(width).fold(0u32, |value, byte| value << 8 | u32::from(byte))
    };
    if negative {
        out.push(b'-');
    }
    let start = out.len();
    write_padded(out, group(whole % DIGITS_PER_GROUP), 0);
    for _ in 0..whole / DIGITS_PER_GROUP {
        write_padded(out, group(DIGITS_PER_GROUP), DIGITS_PER_GROUP);
    }
    strip_zeros(out, start);
    if scale > 0 {
        out.push(b'.');
    }
    for _ in 0..scale / DIGITS_PER_GROUP {
        write_padded(out, group(DIGITS_PER_GROUP), DIGITS_PER_GROUP);
    }
    let rest = scale % DIGITS_PER_GROUP;
    if rest > 0 {
        write_padded(out, group(rest), rest);
    }
    Ok(())
}

/// How many bytes a binary decimal takes.
pub(super) fn binary_decimal_width(precision: usize, scale: usize) -> usize {
    let width = |digits: usize| {
        digits / DIGITS_PER_GROUP * 4 + GROUP_BYTES.get(digits % DIGITS_PER_GROUP).copied().unwrap_or(0)
    };
    width(precision.saturating_sub(scale)) + width(scale)
}

/// A DECIMAL as MySQL prints it, which is a JSON number but for the leading
/// zeros of ZEROFILL.
pub(super) fn write_decimal_text(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Fault> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    if unsigned.is_empty() || !unsigned.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return Err(Fault::Form);
    }
    if unsigned.len() < text.len() {
        out.push(b'-');
    }
    let start = out.len();
    let whole = unsigned.iter().position(|byte| *byte == b'.').unwrap_or(unsigned.len());
    let (whole, fraction) = unsigned.split_at(whole);
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    strip_zeros(out, start);
    out.extend_from_slice(fraction);
    Ok(())
}

/// Removes leading zeros of the digits from `start` on, all but the last digit.
fn strip_zeros(out: &mut Vec<u8>, start: usize) {
    let digits = out.get(start..).unwrap_or_default();
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count().min(digits.len().saturating_sub(1));
    out.drain(start..start + zeros);
}

/// Base64 with padding, as a JSON string; `zeros` more zero bytes follow the
/// given ones (BINARY(n) is stored without those at its end).
pub(super) fn write_base64(out: &mut Vec<u8>, bytes: &[u8], zeros: usize) {
    out.push(b'"');
    let padded: Vec<u8>;
    let bytes = if zeros == 0 {
        bytes
    } else {
        padded = bytes.iter().copied().chain(std::iter::repeat_n(0, zeros)).collect();
        &padded
    };
    push_base64(out, bytes);
    out.push(b'"');
}

pub(super) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |word, at| word << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for place in 0..4usize {
            let sextet = (word >> (18 - 6 * place)) as usize & 63;
            let letter = ALPHABET.get(sextet).copied().unwrap_or(b'=');
            out.push(if place > chunk.len() { b'=' } else { letter });
        }
    }
}
