//! Exact decimal numbers of at most 38 digits: money never passes through f64.
//!
//! The expressions of plans and the sums of dws compute with these. Every
//! operation that could lose a digit says so instead.

use std::{cmp::Ordering, fmt};

/// The most digits after the point: `10^38` is the greatest power of ten that
/// an `i128` holds, and comparing relies on it.
pub const SCALE_MAX: u32 = 38;

/// `unscaled / 10^scale`. Numbers of different scale are equal when their
/// values are (`1.0 = 1.00`); the scale is kept for printing.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    unscaled: i128,
    scale: u32,
}

impl Decimal {
    pub const ZERO: Self = Self { unscaled: 0, scale: 0 };

    /// `None` when the scale is over [`SCALE_MAX`].
    pub const fn new(unscaled: i128, scale: u32) -> Option<Self> {
        if scale > SCALE_MAX { None } else { Some(Self { unscaled, scale }) }
    }

    pub const fn unscaled(self) -> i128 {
        self.unscaled
    }

    pub const fn scale(self) -> u32 {
        self.scale
    }

    /// Reads `-12.50`, `7`, `.5`, `1E-7` as JSON and MySQL write numbers;
    /// `None` when the text is no number or does not fit.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut unscaled = 0i128;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let digit = i128::from(byte.checked_sub(b'0').filter(|digit| *digit <= 9)?);
            unscaled = unscaled.checked_mul(10)?.checked_add(digit)?;
        }
        let unscaled = if negative { -unscaled } else { unscaled };
        Self::shifted(unscaled, i64::try_from(fraction.len()).ok()? - i64::from(exponent))
    }

    /// A number of any scale, negative ones too, brought to `0..=SCALE_MAX`.
    fn shifted(mut unscaled: i128, mut scale: i64) -> Option<Self> {
        if unscaled == 0 {
            return Self::new(0, u32::try_from(scale.clamp(0, i64::from(SCALE_MAX))).ok()?);
        }
        while scale > i64::from(SCALE_MAX) && unscaled % 10 == 0 {
            unscaled /= 10;
            scale -= 1;
        }
        if scale < 0 {
            unscaled = unscaled.checked_mul(power(u32::try_from(-scale).ok()?)?)?;
            scale = 0;
        }
        Self::new(unscaled, u32::try_from(scale).ok()?)
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        Self::new(self.unscaled_at(scale)?.checked_add(other.unscaled_at(scale)?)?, scale)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(other.checked_neg()?)
    }

    pub fn checked_mul(self, other: Self) -> Option<Self> {
        Self::new(self.unscaled.checked_mul(other.unscaled)?, self.scale + other.scale)
    }

    pub fn checked_neg(self) -> Option<Self> {
        Self::new(self.unscaled.checked_neg()?, self.scale)
    }

    /// The unscaled number at a scale that is not smaller; `None` when it does
    /// not fit, or digits would be lost.
    pub fn unscaled_at(self, scale: u32) -> Option<i128> {
        self.unscaled.checked_mul(power(scale.checked_sub(self.scale)?)?)
    }

    /// At a scale, rounded half away from zero where digits must go.
    pub fn rounded(self, scale: u32) -> Option<Self> {
        if scale >= self.scale {
            return Self::new(self.unscaled_at(scale)?, scale);
        }
        let unit = power(self.scale - scale)?;
        let (quotient, rest) = (self.unscaled / unit, self.unscaled % unit);
        // Half of a power of ten is whole, so no digit hides in this division.
        let away = i128::from(rest.unsigned_abs() >= unit.unsigned_abs() / 2) * self.unscaled.signum();
        Self::new(quotient.checked_add(away)?, scale)
    }

    /// Without its fraction.
    pub fn truncated(self) -> Self {
        Self { unscaled: self.parts().0, scale: 0 }
    }

    pub const fn is_zero(self) -> bool {
        self.unscaled == 0
    }

    /// How many digits stand before the point.
    pub fn whole_digits(self) -> u32 {
        self.parts().0.unsigned_abs().checked_ilog10().map_or(0, |log| log + 1)
    }

    /// The whole part and the rest, both of the number's sign.
    fn parts(self) -> (i128, i128) {
        let unit = power(self.scale).unwrap_or(i128::MAX);
        (self.unscaled / unit, self.unscaled % unit)
    }
}

fn power(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Self { unscaled: i128::from(number), scale: 0 }
    }
}

impl From<u64> for Decimal {
    fn from(number: u64) -> Self {
        Self { unscaled: i128::from(number), scale: 0 }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.scale == other.scale {
            return self.unscaled.cmp(&other.unscaled);
        }
        let ((whole, rest), (other_whole, other_rest)) = (self.parts(), other.parts());
        // A rest is below 10^scale: brought to the greater scale it is below
        // 10^38 and fits.
        let scale = self.scale.max(other.scale);
        let aligned = |rest: i128, own: u32| rest * power(scale - own).unwrap_or(1);
        whole.cmp(&other_whole).then_with(|| aligned(rest, self.scale).cmp(&aligned(other_rest, other.scale)))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled < 0 { "-" } else { "" };
        if self.scale == 0 {
            return write!(f, "{}", self.unscaled);
        }
        let (whole, rest) = self.parts();
        let width = self.scale as usize;
        write!(f, "{sign}{}.{:0width$}", whole.unsigned_abs(), rest.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    /// The value in units of 10^-12, which every generated number fits.
    fn units(number: Decimal) -> i128 {
        number.unscaled_at(12).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(unscaled in any::<i128>(), scale in 0..=SCALE_MAX) {
            prop_assume!(unscaled != i128::MIN);
            let number = Decimal::new(unscaled, scale).unwrap();
            let again = decimal(&number.to_string());
            prop_assert_eq!((again.unscaled(), again.scale()), (unscaled, scale));
        }

        #[test]
        fn arithmetic_and_order_are_those_of_integers(
            a in (any::<i32>(), 0..=6u32), b in (any::<i32>(), 0..=6u32),
        ) {
            let make = |(unscaled, scale): (i32, u32)| Decimal::new(i128::from(unscaled), scale).unwrap();
            let (x, y) = (make(a), make(b));
            prop_assert_eq!(units(x.checked_add(y).unwrap()), units(x) + units(y));
            prop_assert_eq!(units(x.checked_sub(y).unwrap()), units(x) - units(y));
            let product = i128::from(a.0) * i128::from(b.0) * 10i128.pow(12 - a.1 - b.1);
            prop_assert_eq!(units(x.checked_mul(y).unwrap()), product);
            prop_assert_eq!(x.cmp(&y), units(x).cmp(&units(y)));
        }

        #[test]
        fn comparing_never_overflows_and_is_antisymmetric(
            a in (any::<i128>(), 0..=SCALE_MAX), b in (any::<i128>(), 0..=SCALE_MAX),
        ) {
            let (x, y) = (Decimal::new(a.0, a.1).unwrap(), Decimal::new(b.0, b.1).unwrap());
            prop_assert_eq!(x.cmp(&y), y.cmp(&x).reverse());
        }

        #[test]
        fn rounding_is_to_the_nearest(unscaled in any::<i64>(), scale in 0..=6u32, to in 0..=6u32) {
            let number = Decimal::new(i128::from(unscaled), scale).unwrap();
            let error = units(number.rounded(to).unwrap()) - units(number);
            prop_assert!(error.abs() * 2 <= 10i128.pow(12 - to));
        }
    }

    #[test]
    fn reads_the_forms_of_json_and_mysql() {
        for (text, unscaled, scale) in [
            ("0", 0, 0),
            ("-12.50", -1250, 2),
            ("+3", 3, 0),
            (".5", 5, 1),
            ("1E-7", 1, 7),
            ("1.5e3", 1500, 0),
            ("-0.00", 0, 2),
            ("18446744073709551615", 18_446_744_073_709_551_615, 0),
            ("0e-300", 0, 38),
        ] {
            let number = decimal(text);
            assert_eq!((number.unscaled(), number.scale()), (unscaled, scale), "{text}");
        }
        for text in ["", "-", ".", "abc", "1.2.3", "1e", "0x1f", "1 ", "1e-300", "1e39", "\"1\"", "--1"] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let greatest = Decimal::new(i128::MAX, 0).unwrap();
        assert!(greatest.checked_add(Decimal::from(1i64)).is_none());
        assert!(greatest.checked_mul(Decimal::from(2i64)).is_none());
        assert!(Decimal::new(1, 20).unwrap().checked_mul(Decimal::new(1, 19).unwrap()).is_none());
        assert!(decimal("1.25").unscaled_at(1).is_none());
        assert!(Decimal::new(i128::MIN, 0).unwrap().checked_neg().is_none());
    }

    #[test]
    fn rounds_half_away_from_zero() {
        for (text, scale, expect) in
            [("1.25", 1, "1.3"), ("-1.25", 1, "-1.3"), ("1.24", 1, "1.2"), ("9.5", 0, "10")]
        {
            assert_eq!(decimal(text).rounded(scale).unwrap().to_string(), expect);
        }
        assert_eq!(decimal("-1.9").truncated().to_string(), "-1");
        assert_eq!(decimal("123.45").whole_digits(), 3);
        assert_eq!(decimal("0.45").whole_digits(), 0);
    }
}
