//! Who may read what. A token is a random text that its holder sends as `Authorization: Bearer …`; the file knows only
//! its SHA-256. Tokens carry at least 128 bits of chance, so a plain hash is enough and costs a request nothing.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a request may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All accounts, and what changes the daemon.
    Admin,
    /// All accounts.
    Read,
    /// One account: its view, usage, check and notices.
    Account(String),
}

/// The tokens of a daemon. Without any, everyone who reaches the port may read.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug)]
pub struct Token {
    /// For people; never shown to the holder.
    pub name: String,
    pub sha256: [u8; 32],
    pub scope: Scope,
}

impl Scope {
    pub fn reads(&self, account: &str) -> bool {
        match self {
            Scope::Admin | Scope::Read => true,
            Scope::Account(own) => own == account,
        }
    }

    pub fn reads_all(&self) -> bool {
        !matches!(self, Scope::Account(_))
    }
}

impl Tokens {
    pub fn new(tokens: Vec<Token>) -> Tokens {
        Tokens { tokens }
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The scope of a token as it was presented. Compares with all of them, in the same time whichever fits.
    pub fn scope(&self, presented: &str) -> Option<&Scope> {
        let hash = hash(presented);
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.sha256.ct_eq(&hash)) {
                found = Some(&token.scope);
            }
        }
        found
    }
}

/// The hash of a token as the file writes it.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_scope_of_its_hash() {
        let token = |name: &str, text: &str, scope| Token { name: name.into(), sha256: hash(text), scope };
        let tokens = Tokens::new(vec![
            token("grafana", "first", Scope::Read),
            token("acme", "second", Scope::Account("acme".into())),
        ]);
        assert_eq!(tokens.scope("first"), Some(&Scope::Read));
        assert_eq!(tokens.scope("second"), Some(&Scope::Account("acme".into())));
        assert_eq!(tokens.scope("third"), None);
        assert_eq!(tokens.scope(""), None);
        assert!(Scope::Account("acme".into()).reads("acme"));
        assert!(!Scope::Account("acme".into()).reads("acme2"));
    }
}
