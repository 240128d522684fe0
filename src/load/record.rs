//! Usage records that look like a gateway's: CloudEvents of about 277 bytes, one call of a language model each.

use crate::engine::{Ms, calendar};

/// What records are drawn from.
#[derive(Clone, Debug)]
pub struct Shape {
    pub kind: String,
    pub models: Vec<String>,
    pub accounts: u64,
    pub users: u64,
    /// 0: all accounts alike; above, the first are used the more (an account's rank is drawn as n × u^(1 + skew)).
    pub skew: f64,
    /// Times lie this far before now, evenly.
    pub spread_ms: i64,
}

/// Draws records, the same ones for the same seed but for their times.
pub struct Records<'s> {
    shape: &'s Shape,
    random: Random,
    seed: u64,
    /// The times of records are written once a second of them.
    second: Ms,
    second_text: String,
    account: String,
    value: String,
}

/// SplitMix64: a small generator of good quality for draws like these.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to under `end`.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// From 0 to under 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl<'s> Records<'s> {
    pub fn new(shape: &'s Shape, seed: u64) -> Records<'s> {
        Records {
            shape,
            random: Random(seed),
            seed,
            second: Ms::MIN,
            second_text: String::new(),
            account: String::new(),
            value: String::with_capacity(512),
        }
    }

    /// The next record, number `number` of its seed: its account, which is its key, and its value.
    pub fn next(&mut self, number: u64, now: Ms) -> (&str, &[u8]) {
        let shape = self.shape;
        let rank = if shape.skew > 0.0 {
            (shape.accounts as f64 * self.random.share().powf(1.0 + shape.skew)) as u64
        } else {
            self.random.below(shape.accounts)
        };
        let user = self.random.below(shape.users);
        let model = self.random.below(shape.models.len() as u64) as usize;
        let (input, output) = (100 + self.random.below(9_000), 10 + self.random.below(990));
        let at = now - self.random.below(shape.spread_ms.unsigned_abs() + 1) as i64;
        self.account.clear();
        self.account.push_str("account-");
        push_digits(&mut self.account, rank, 7);
        self.write(number, at, user, model, (input, output));
        (&self.account, self.value.as_bytes())
    }

    fn write(&mut self, number: u64, at: Ms, user: u64, model: usize, tokens: (u64, u64)) {
        let ms = at.rem_euclid(1_000);
        if at - ms != self.second {
            self.second = at - ms;
            self.second_text = calendar::format_time(self.second);
            self.second_text.truncate("2026-11-20T07:00:00".len());
        }
        let text = &mut self.value;
        text.clear();
        *text += r#"{"specversion":"1.0","id":"r-"#;
        push_digits(text, self.seed % 100_000, 5);
        text.push('-');
        push_digits(text, number, 10);
        *text += r#"","source":"gateway/eu-1","type":""#;
        *text += &self.shape.kind;
        *text += r#"","subject":""#;
        *text += &self.account;
        *text += r#"","time":""#;
        *text += &self.second_text;
        text.push('.');
        push_digits(text, ms as u64, 3);
        *text += r#"Z","data":{"user":"user-"#;
        push_digits(text, user, 5);
        *text += r#"","model":""#;
        *text += &self.shape.models[model];
        *text += r#"","requests":1,"input_tokens":"#;
        push_digits(text, tokens.0, 1);
        *text += r#","output_tokens":"#;
        push_digits(text, tokens.1, 1);
        *text += "}}";
    }
}

/// At least `width` digits.
fn push_digits(text: &mut String, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    while value > 0 || digits.len() - first < width {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    text.extend(digits[first..].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cloudevents_of_the_usual_size() {
        let shape = Shape {
            kind: "llm.call".to_owned(),
            models: vec!["anthropic/claude-opus-4.7".to_owned()],
            accounts: 100,
            users: 10,
            skew: 1.0,
            spread_ms: 60_000,
        };
        let mut records = Records::new(&shape, 7);
        let mut low_ranks = 0;
        for number in 0..1_000 {
            let (account, value) = records.next(number, 1_795_158_000_000);
            let event: serde_json::Value = serde_json::from_slice(value).expect("JSON");
            assert_eq!(event["subject"], account);
            assert!((250..310).contains(&value.len()), "{} bytes", value.len());
            let at = calendar::parse_time(event["time"].as_str().expect("a time")).expect("RFC 3339");
            assert!((1_795_157_940_000..=1_795_158_000_000).contains(&at));
            low_ranks += u32::from(account < "account-0000025");
        }
        assert!((450..550).contains(&low_ranks), "half of the draws fall on a quarter: {low_ranks}");
    }
}
