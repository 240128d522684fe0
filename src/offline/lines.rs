//! Folding a source line by line. Lines are read in groups, so that what their records need of the state is fetched from
//! memory together; they are folded one after the other.

use std::io::{self, ErrorKind, Read};

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::line::{self, Line, LineForm};
use super::run::{Listener, Run};
use crate::engine::effects::Refusal;
use crate::engine::{Ms, Reason};
use crate::ingest::decode::{Instants, Raw};
use crate::shard::{GROUP, Read as Record};

const BLOCK_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub enum Failed {
    Io(io::Error),
    /// A line, counted from 1, that is none of the form.
    Line {
        number: u64,
        message: String,
    },
}

/// Reads lines; learns how they are written.
#[derive(Default)]
pub struct Lines {
    number: u64,
    arena: Bump,
    form: LineForm,
    instants: Instants,
}

enum Item<'a> {
    /// A usage record of the usual form.
    Usage(Ms, Result<Record<'a>, Refusal>),
    Line(&'a str),
}

impl Lines {
    /// Folds all lines of a source. `go_on` is told how many bytes were folded, now and then, and says whether to go on.
    pub fn fold<L: Listener>(
        &mut self,
        run: &mut Run,
        mut source: impl Read,
        listener: &mut L,
        mut go_on: impl FnMut(&mut L, u64) -> bool,
    ) -> Result<(), Failed> {
        let mut buffer = vec![0; BLOCK_BYTES];
        let (mut filled, mut folded) = (0, 0);
        loop {
            let read = match source.read(&mut buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.map_err(Failed::Io)?,
            };
            filled += read;
            let end = memchr::memrchr(b'\n', &buffer[..filled]).map_or(0, |at| at + 1);
            let whole = if read == 0 { filled } else { end };
            self.fold_block(run, &buffer[..whole], listener)?;
            folded += whole as u64;
            if read == 0 || !go_on(listener, folded) {
                return Ok(());
            }
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
            if filled == buffer.len() {
                buffer.resize(2 * filled, 0);
            }
        }
    }

    /// Folds whole lines.
    fn fold_block(&mut self, run: &mut Run, block: &[u8], listener: &mut impl Listener) -> Result<(), Failed> {
        let mut wrong_at = None;
        let text = simdutf8::basic::from_utf8(block).or_else(|_| {
            let valid = std::str::from_utf8(block).map_or_else(|error| error.valid_up_to(), str::len);
            let line = memchr::memrchr(b'\n', &block[..valid]).map_or(0, |at| at + 1);
            wrong_at = Some(valid - line);
            std::str::from_utf8(&block[..line])
        });
        let text = text.expect("a text is UTF-8 up to where it is not");
        let mut arena = std::mem::take(&mut self.arena);
        let folded = self.fold_groups(run, text, &mut arena, listener);
        self.arena = arena;
        folded?;
        match wrong_at {
            None => Ok(()),
            Some(at) => Err(Failed::Line { number: self.number + 1, message: format!("expected UTF-8 at byte {at}") }),
        }
    }

    fn fold_groups(
        &mut self,
        run: &mut Run,
        text: &str,
        arena: &mut Bump,
        listener: &mut impl Listener,
    ) -> Result<(), Failed> {
        let mut rest = text;
        while !rest.is_empty() {
            arena.reset();
            let arena = &*arena;
            let mut group = BumpVec::with_capacity_in(GROUP, arena);
            while group.len() < GROUP && !rest.is_empty() {
                let end = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
                group.push(self.take(run, &rest[..end], arena));
                rest = rest.get(end + 1..).unwrap_or_default();
            }
            run.fetch(group.iter().filter_map(|item| match item {
                Item::Usage(_, Ok(record)) => Some(record),
                _ => None,
            }));
            for item in group {
                self.number += 1;
                match item {
                    Item::Usage(timestamp, read) => {
                        run.fold_read(timestamp, &read, listener);
                    }
                    Item::Line(line) => self
                        .fold_line(run, line, arena, listener)
                        .map_err(|message| Failed::Line { number: self.number, message })?,
                }
            }
        }
        Ok(())
    }

    /// Reads a line of the form of the one before; any other is left to be read when its turn comes.
    #[inline]
    fn take<'a>(&mut self, run: &mut Run, line: &'a str, arena: &'a Bump) -> Item<'a> {
        if let Some((timestamp, value)) = self.form.usage(line)
            && let Some(timestamp) = self.instants.read(timestamp)
        {
            let raw = Raw { key: None, value: Some(value.as_bytes()), headers: &[], timestamp };
            let read = run.read(&raw, arena);
            // Where the value ends is known only if it is JSON.
            let unread = |refusal: &Refusal| matches!(refusal.reason, Reason::BadJson | Reason::TooLarge);
            if !read.as_ref().is_err_and(unread) {
                return Item::Usage(timestamp, read);
            }
        }
        Item::Line(line)
    }

    fn fold_line(
        &mut self,
        run: &mut Run,
        text: &str,
        arena: &Bump,
        listener: &mut impl Listener,
    ) -> Result<(), String> {
        match line::read(text, arena)? {
            Line::Clock(at) => run.pass_time(at, listener),
            Line::Input { topic, timestamp, key, value, headers } => {
                let raw = Raw { key: key.map(str::as_bytes), value: Some(value.as_bytes()), headers, timestamp };
                let refusal = run.fold(topic, &raw, listener);
                // Decoding is stricter than JSON's grammar; a line must keep to that.
                if refusal.is_some_and(|refusal| refusal.reason == Reason::BadJson) && !line::is_json(text) {
                    return Err("expected a JSON object, found a value that is no JSON".to_owned());
                }
                self.form.learn(text);
            }
        }
        Ok(())
    }
}
