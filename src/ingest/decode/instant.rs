//! Times of records, most of which are of the day of the one before.

use crate::engine::{Ms, calendar};

/// `2026-11-20T`: what two times of one day have in common.
const DATE: usize = 11;
/// `2026-11-20T07:00:00.250Z`
const LENGTH: usize = 24;

/// Reads RFC 3339 times; remembers the day last read.
#[derive(Default)]
pub struct Instants {
    date: [u8; DATE],
    /// When that day begins, once there is one.
    begins: Ms,
}

impl Instants {
    /// As [`calendar::parse_time`].
    #[inline]
    pub fn read(&mut self, text: &str) -> Option<Ms> {
        if let Ok(usual) = <&[u8; LENGTH]>::try_from(text.as_bytes()) {
            if usual[..DATE] == self.date
                && let Some(of_day) = of_day(usual)
            {
                return Some(self.begins + of_day);
            }
            let at = calendar::parse_time(text)?;
            if let Some(of_day) = of_day(usual) {
                self.date.copy_from_slice(&usual[..DATE]);
                self.begins = at - of_day;
            }
            return Some(at);
        }
        calendar::parse_time(text)
    }
}

/// Milliseconds from the day's beginning to `hh:mm:ss.mmmZ`; `None` where it is written in another way, or is no time.
#[inline]
fn of_day(text: &[u8; LENGTH]) -> Option<Ms> {
    let [.., h1, h0, c1, m1, m0, c2, s1, s0, point, t2, t1, t0, zone] = *text;
    let digit = |byte: u8| byte.wrapping_sub(b'0');
    let all = [h1, h0, m1, m0, s1, s0, t2, t1, t0].map(digit);
    if (c1, c2, point, zone) != (b':', b':', b'.', b'Z') || all.iter().any(|digit| *digit > 9) {
        return None;
    }
    let [h1, h0, m1, m0, s1, s0, t2, t1, t0] = all.map(i64::from);
    let (hour, minute, second) = (h1 * 10 + h0, m1 * 10 + m0, s1 * 10 + s0);
    let is_time = hour < 24 && minute < 60 && second < 60;
    is_time.then_some(((hour * 60 + minute) * 60 + second) * 1000 + t2 * 100 + t1 * 10 + t0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_as_the_calendar_does(
            texts in prop::collection::vec(
                "20[27][068]-(02|1[12])-(2[089]|30)[Tt ][012][0-9]:[056][0-9]:[056][0-9](\\.[0-9]{3}|\\.[0-9]|)(Z|z|\\+0[0-3]:30)",
                1..20,
            ),
        ) {
            let mut instants = Instants::default();
            for text in texts {
                prop_assert_eq!(instants.read(&text), calendar::parse_time(&text), "{}", text);
            }
        }
    }
}
