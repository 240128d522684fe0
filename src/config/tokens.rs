//! `tokens.toml`: who may ask what over HTTP (docs/reference.md 13).
//!
//! ```toml
//! [[token]]
//! name = "support desk"                  # for people; optional
//! sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"   # printf %s "$TOKEN" | sha256sum
//! scope = "read"                         # every account; "admin": also what changes something; { account = "acme" }: that one
//! ```
//!
//! A token is a long random text (`openssl rand -base64 32`), so that a plain hash of it cannot be guessed back.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::diagnostics::Diagnostics;
use super::reading::{Reading, Table, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every account, reading.
    Read,
    /// Everything.
    Admin,
    /// One account, reading.
    Account(String),
}

impl Scope {
    pub fn reads(&self, account: &str) -> bool {
        match self {
            Scope::Read | Scope::Admin => true,
            Scope::Account(own) => own == account,
        }
    }

    pub fn reads_all(&self) -> bool {
        !matches!(self, Scope::Account(_))
    }
}

/// The hashes of tokens and what each allows.
#[derive(Clone)]
pub struct Tokens {
    list: Vec<([u8; 32], Scope)>,
}

impl Tokens {
    pub fn load(path: &Path) -> Result<Tokens, Diagnostics> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| super::unreadable(&file, &error))?;
        Tokens::parse(&text, &file)
    }

    pub fn parse(text: &str, file: &str) -> Result<Tokens, Diagnostics> {
        let (tokens, found) = Reading::run(file, text, check);
        match tokens {
            Some(tokens) if !found.has_errors() => Ok(tokens),
            _ => Err(found),
        }
    }

    /// What a presented token allows; `None` for an unknown one. Takes the same time for every token.
    pub fn scope_of(&self, presented: &str) -> Option<&Scope> {
        let hash: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        let mut found = None;
        for (known, scope) in &self.list {
            let same: Choice = known.ct_eq(&hash);
            if bool::from(same) {
                found = Some(scope);
            }
        }
        found
    }
}

/// Without the hashes.
impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tokens({})", self.list.len())
    }
}

fn check(reading: &Reading<'_>, mut root: Table<'_>) -> Option<Tokens> {
    let given = root.require("token", "… in [[token]] tables");
    let mut list: Vec<([u8; 32], Scope)> = Vec::new();
    for table in given.and_then(|value| value.tables()).unwrap_or_default() {
        let place = table.place().clone();
        let Some((hash, scope)) = token(table) else { continue };
        if list.iter().any(|(known, _)| *known == hash) {
            reading.error(&place, "this token is listed twice", Some("give each reader a token of its own".to_owned()));
        }
        list.push((hash, scope));
    }
    root.finish();
    Some(Tokens { list })
}

fn token(mut table: Table<'_>) -> Option<([u8; 32], Scope)> {
    table.get("name").and_then(|name| name.text());
    let hash = table.require("sha256", "\"…64 hex digits…\"").and_then(|value| hash_of(&value));
    let scope = table.require("scope", "\"read\"").and_then(|value| scope_of(&value));
    table.finish();
    Some((hash?, scope?))
}

fn hash_of(value: &Value<'_>) -> Option<[u8; 32]> {
    let text = value.text()?;
    let hash = unhex(text);
    if hash.is_none() {
        // What stands there may be the token itself: it is not repeated.
        value
            .conceal("this is not a SHA-256 in 64 hex digits", "write the output of: printf %s \"$TOKEN\" | sha256sum");
    }
    hash
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(hash)
}

fn scope_of(value: &Value<'_>) -> Option<Scope> {
    if !value.item.is_table() {
        return value.choose(&[("read", 0), ("admin", 1)]).map(|at| if at == 0 { Scope::Read } else { Scope::Admin });
    }
    let mut table = value.table()?;
    let account = table.require("account", "\"acme\"").and_then(|account| account.text());
    table.finish();
    account.map(|account| Scope::Account(account.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[token]]
        sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" # foo
        scope = "admin"
        [[token]]
        name = "acme's own"
        sha256 = "FCDE2B2EDBA56BF408601FB721FE9B5C338D10EE429EA04FAE5511B68FBF8FB9" # bar
        scope = { account = "acme" }
    "#;

    #[test]
    fn tells_scopes_by_hash() {
        let tokens = Tokens::parse(FILE, "tokens.toml").expect("tokens");
        assert_eq!(tokens.scope_of("foo"), Some(&Scope::Admin));
        assert_eq!(tokens.scope_of("bar"), Some(&Scope::Account("acme".to_owned())));
        assert_eq!(tokens.scope_of("baz"), None);
        assert_eq!(tokens.scope_of(""), None);
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    #[test]
    fn never_repeats_what_may_be_a_token() {
        let wrong =
            Tokens::parse("[[token]]\nsha256 = \"my-secret\"\nscope = \"read\"\n", "tokens.toml").expect_err("wrong");
        assert_eq!((wrong.list.len(), wrong.list[0].line), (1, 2));
        assert!(!wrong.to_string().contains("my-secret"), "{wrong}");
    }
}
