//! A strict reader of JSON (RFC 8259, UTF-8): it walks a text, lends its strings, and keeps numbers as they were written.
//!
//! Our own because exactness comes first here and no crate gives all of it: numbers of any length as text, unpaired
//! surrogates refused, nesting up to 32, no repeated name in any object, ignored ones included, and strings that
//! outlive the reader. Tests compare it with serde_json.
//!
//! The reader does not judge what it lends; names are compared after escapes are resolved. A caller that walks an object
//! itself looks for repeated names itself; [`Reader::skip`] does so for what it skips.

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

/// Objects and arrays inside one another.
pub const NESTING_MAX: u32 = 32;

/// Where a text is not JSON, and what would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset in bytes.
    pub at: usize,
    pub expected: &'static str,
}

/// The text is not JSON; [`Reader::fault`] says where. It is apart so that results stay small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    Text,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::Text => "a string",
            Kind::Number => "a number",
            Kind::Bool => "a boolean",
            Kind::Null => "null",
        }
    }
}

/// Walks one text. After a fault it is of no more use.
pub struct Reader<'j> {
    text: &'j str,
    at: usize,
    depth: u32,
    /// Where strings with escapes and lists of names are kept.
    arena: &'j Bump,
    fault: Fault,
}

impl<'j> Reader<'j> {
    pub fn new(text: &'j str, arena: &'j Bump) -> Reader<'j> {
        Reader { text, at: 0, depth: 0, arena, fault: Fault { at: 0, expected: "JSON" } }
    }

    /// A reader of a value that stands at `at`, inside `depth` objects and arrays.
    pub fn within(text: &'j str, at: usize, depth: u32, arena: &'j Bump) -> Reader<'j> {
        Reader { at, depth, ..Reader::new(text, arena) }
    }

    /// The offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The text from an offset up to the next byte.
    pub fn since(&self, start: usize) -> &'j str {
        &self.text[start..self.at]
    }

    /// What the next value is.
    #[inline]
    pub fn kind(&mut self) -> Result<Kind, Invalid> {
        match self.next_byte() {
            Some(b'"') => Ok(Kind::Text),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => self.refuse("a JSON value"),
        }
    }

    /// Enters an object; the next value must be one.
    #[inline]
    pub fn enter_object(&mut self) -> Result<(), Invalid> {
        self.enter(b'{', "an object")
    }

    /// The next name of the object entered, or `None` at its end, which is then left. Its value comes next.
    #[inline]
    pub fn name(&mut self, first: &mut bool) -> Result<Option<&'j str>, Invalid> {
        // Without white space, as most records are.
        if !*first && self.text.as_bytes()[self.at..].starts_with(b",\"") {
            self.at += 1;
        } else if !self.separated(b'}', first, "a comma or the end of the object")? {
            return Ok(None);
        } else if self.next_byte() != Some(b'"') {
            return self.refuse("a name in double quotes");
        }
        let name = self.quoted()?;
        if self.next_byte() != Some(b':') {
            return self.refuse("a colon");
        }
        self.at += 1;
        Ok(Some(name))
    }

    /// Enters an array; the next value must be one.
    pub fn enter_array(&mut self) -> Result<(), Invalid> {
        self.enter(b'[', "an array")
    }

    /// Whether the array entered has one more element; if not, it is left.
    pub fn element(&mut self, first: &mut bool) -> Result<bool, Invalid> {
        self.separated(b']', first, "a comma or the end of the array")
    }

    /// A string, its escapes resolved; the next value must be one.
    #[inline]
    pub fn string(&mut self) -> Result<&'j str, Invalid> {
        if self.next_byte() != Some(b'"') {
            return self.refuse("a string");
        }
        self.quoted()
    }

    /// A string whose quote comes next.
    #[inline]
    fn quoted(&mut self) -> Result<&'j str, Invalid> {
        let start = self.at + 1;
        self.at = plain_end(self.text.as_bytes(), start);
        match self.text.as_bytes().get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok(&self.text[start..self.at - 1])
            }
            Some(b'\\') => self.escaped_string(start),
            Some(_) => self.refuse("no control character in a string"),
            None => self.refuse("the end of a string"),
        }
    }

    /// A number as it is written; the next value must be one.
    #[inline]
    pub fn number(&mut self) -> Result<&'j str, Invalid> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.refuse("a digit"),
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// `true` or `false`; the next value must begin like one.
    pub fn boolean(&mut self) -> Result<bool, Invalid> {
        if self.text.as_bytes().get(self.at) == Some(&b't') {
            self.word("true").map(|()| true)
        } else {
            self.word("false").map(|()| false)
        }
    }

    /// `null`; the next value must begin like it.
    pub fn null(&mut self) -> Result<(), Invalid> {
        self.word("null")
    }

    /// Any value, checked like all others and otherwise ignored.
    pub fn skip(&mut self) -> Result<(), Invalid> {
        match self.kind()? {
            Kind::Text => self.string().map(|_| ()),
            Kind::Number => self.number().map(|_| ()),
            Kind::Bool => self.boolean().map(|_| ()),
            Kind::Null => self.null(),
            Kind::Array => {
                self.enter_array()?;
                let mut first = true;
                while self.element(&mut first)? {
                    self.skip()?;
                }
                Ok(())
            }
            Kind::Object => {
                self.enter_object()?;
                let mut names = BumpVec::new_in(self.arena);
                let mut first = true;
                while let Some(name) = self.name(&mut first)? {
                    names.push(name);
                    self.skip()?;
                }
                self.no_repeated(&mut names)
            }
        }
    }

    /// Any value, of which only its end is looked for: strings and brackets count, all else is for another to judge.
    pub fn pass_over(&mut self) -> Result<(), Invalid> {
        match self.kind()? {
            Kind::Text => self.pass_over_string(),
            Kind::Object | Kind::Array => self.pass_over_brackets(),
            Kind::Number | Kind::Bool | Kind::Null => {
                let rest = &self.text.as_bytes()[self.at..];
                let end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                self.at += rest.iter().position(end).unwrap_or(rest.len());
                Ok(())
            }
        }
    }

    fn pass_over_brackets(&mut self) -> Result<(), Invalid> {
        let bytes = self.text.as_bytes();
        let mut open = 0u32;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.pass_over_string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Ok(());
            }
        }
        self.refuse("the end of a value")
    }

    /// A string whose escapes are not looked at.
    fn pass_over_string(&mut self) -> Result<(), Invalid> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            self.at = plain_end(bytes, self.at);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at = (self.at + 2).min(bytes.len()),
                Some(_) => self.at += 1,
                None => return self.refuse("the end of a string"),
            }
        }
    }

    /// Refuses names of which one stands twice. Their order is lost.
    pub fn no_repeated(&mut self, names: &mut [&'j str]) -> Result<(), Invalid> {
        if names.len() > 1 {
            names.sort_unstable();
            if names.windows(2).any(|pair| pair[0] == pair[1]) {
                return self.refuse("no repeated name in an object");
            }
        }
        Ok(())
    }

    /// After the value there must be nothing.
    pub fn end(&mut self) -> Result<(), Invalid> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => self.refuse("nothing after the value"),
        }
    }

    /// What was wrong where a method gave [`Invalid`].
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Notes what would have been right here.
    #[cold]
    pub fn refuse<T>(&mut self, expected: &'static str) -> Result<T, Invalid> {
        self.fault = Fault { at: self.at, expected };
        Err(Invalid)
    }

    /// The next byte that is no white space; it stays the next.
    #[inline]
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    #[inline]
    fn enter(&mut self, open: u8, expected: &'static str) -> Result<(), Invalid> {
        if self.next_byte() != Some(open) {
            return self.refuse(expected);
        }
        if self.depth == NESTING_MAX {
            return self.refuse("at most 32 objects and arrays inside one another");
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Goes to the next member or element, or leaves at `close`.
    #[inline]
    fn separated(&mut self, close: u8, first: &mut bool, expected: &'static str) -> Result<bool, Invalid> {
        let next = self.next_byte();
        if next == Some(close) {
            self.depth -= 1;
            self.at += 1;
            return Ok(false);
        }
        if std::mem::replace(first, false) {
            return Ok(true);
        }
        if next != Some(b',') {
            return self.refuse(expected);
        }
        self.at += 1;
        if self.next_byte() == Some(close) {
            return self.refuse("no comma before the end");
        }
        Ok(true)
    }

    /// One digit or more.
    #[inline]
    fn digits(&mut self) -> Result<(), Invalid> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.refuse("a digit") } else { Ok(()) }
    }

    fn word(&mut self, word: &'static str) -> Result<(), Invalid> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.refuse("true, false or null");
        }
        self.at += word.len();
        Ok(())
    }

    /// A string of which the part up to the next byte, a backslash, is plain.
    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<&'j str, Invalid> {
        let mut resolved = bumpalo::collections::String::new_in(self.arena);
        let mut plain = start;
        loop {
            resolved.push_str(&self.text[plain..self.at]);
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(resolved.into_bump_str());
                }
                Some(b'\\') => resolved.push(self.escape()?),
                Some(_) => return self.refuse("no control character in a string"),
                None => return self.refuse("the end of a string"),
            }
            plain = self.at;
            self.at = plain_end(self.text.as_bytes(), plain);
        }
    }

    fn escape(&mut self) -> Result<char, Invalid> {
        let resolved = match self.text.as_bytes().get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.refuse(r#"one of \" \\ \/ \b \f \n \r \t \u"#),
        };
        self.at += 2;
        Ok(resolved)
    }

    fn unicode_escape(&mut self) -> Result<char, Invalid> {
        let first = self.four_digits()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if !self.text.as_bytes()[self.at..].starts_with(br"\u") {
                    return self.refuse("the second half of a surrogate pair");
                }
                match self.four_digits()? {
                    second @ 0xDC00..=0xDFFF => 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                    _ => return self.refuse("the second half of a surrogate pair"),
                }
            }
            _ => first,
        };
        match char::from_u32(code) {
            Some(resolved) => Ok(resolved),
            None => self.refuse("the first half of a surrogate pair"),
        }
    }

    /// The four hexadecimal digits after `\u`, which comes next.
    fn four_digits(&mut self) -> Result<u32, Invalid> {
        let Some(digits) = self.text.as_bytes().get(self.at + 2..self.at + 6) else {
            return self.refuse("four hexadecimal digits");
        };
        let mut code = 0;
        for digit in digits {
            match char::from(*digit).to_digit(16) {
                Some(value) => code = code * 16 + value,
                None => return self.refuse("four hexadecimal digits"),
            }
        }
        self.at += 6;
        Ok(code)
    }
}

/// The offset of the first quote, backslash or control character from `at` on, or the end.
///
/// Looks at sixteen bytes at once, with one branch for them: most strings of records end within.
#[inline]
pub fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(sixteen) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let both = u128::from_le_bytes(*sixteen);
        let (low, high) = (marks(both as u64), marks((both >> 64) as u64));
        if low | high != 0 {
            let place = if low != 0 { low.trailing_zeros() } else { 64 + high.trailing_zeros() };
            return at + place as usize / 8;
        }
        at += 16;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..=0x1F) {
            break;
        }
        at += 1;
    }
    at
}

/// The high bit of each of eight bytes that is a quote, a backslash or a control character; above the first of these
/// others may be marked too.
#[inline]
fn marks(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let quote = word ^ (ONES * u64::from(b'"'));
    let backslash = word ^ (ONES * u64::from(b'\\'));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    ((quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash) | control) & (ONES << 7)
}

#[cfg(test)]
mod tests;
